export function firstFreeRoom(rooms: Room[], wish: Wish): Room | null {
  let best: Room | null = null;
  for (const room of rooms) {
    if (room.seats < wish.seats) continue;
    let free = true;
    for (const booking of room.bookings) {
      if (booking.from < wish.to && wish.from < booking.to) {
        if (!booking.tentative || booking.owner === wish.owner) {
          free = false;
          break;
        }
      }
    }
    if (free && (best === null || room.seats < best.seats)) best = room;
  }
  return best;
}
