"""The answer cache: an answer that was paid for is not paid for again, and equal questions at once are asked once."""
