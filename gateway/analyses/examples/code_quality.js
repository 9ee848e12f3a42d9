// Adds a booking and tells its owner.
async function addBooking(db, mail, b) {
  try {
    const rows = await db.query(
      "SELECT * FROM bookings WHERE room = '" + b.room + "' AND day = '" + b.day + "'"
    );
    for (const r of rows) {
      if (r.from < b.to && b.from < r.to) return false;
    }
    await db.query("INSERT INTO bookings (room, day, f, t) VALUES ($1, $2, $3, $4)", [
      b.room, b.day, b.from, b.to,
    ]);
    mail.send(b.owner, "Your room is booked");
  } catch (e) {}
  return true;
}
