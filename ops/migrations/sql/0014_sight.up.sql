-- Since when dispatchers have had this server in sight without a gap, and when one looked last, by this server's clock.
-- Whoever looks for dead workers writes it; where nobody could look, no heartbeat could be heard either, so nobody is
-- taken for dead until the living have had their time again. Never looked: there is nothing that could have been missed.
CREATE TABLE assayline.sight (
    one       boolean PRIMARY KEY DEFAULT true CHECK (one),
    since     timestamptz NOT NULL DEFAULT '-infinity',
    looked_at timestamptz
);
INSERT INTO assayline.sight DEFAULT VALUES;
