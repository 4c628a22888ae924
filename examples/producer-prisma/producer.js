// Commits an order and its event in one transaction, with Prisma. Neither exists without the other.
//
//   DATABASE_URL=postgres://shop@db.example/shop node producer.js ORDER_ID AMOUNT
//
// The database has stormhook's outbox: `stormhook migrate` installs it with the store, and `stormhook migrate
// --outbox-only` by itself. The role needs `GRANT USAGE ON SCHEMA stormhook`, and no right on any of its tables.
// stormhook takes the event after the commit, so nothing is sent here, and nothing has to be sent again.

import { PrismaPg } from "@prisma/adapter-pg";
import { PrismaClient } from "@prisma/client";

const prisma = new PrismaClient({ adapter: new PrismaPg({ connectionString: process.env.DATABASE_URL }) });

/** Returns the id of the event. */
async function placeOrder(order, eventType) {
  // The JSON text is what partners receive, byte for byte.
  const data = JSON.stringify({ orderId: order.id, amount: order.amount });
  const key = `order-${order.id}-created`;
  return prisma.$transaction(async (transaction) => {
    await transaction.order.create({ data: order });
    const [row] = await transaction.$queryRaw`SELECT stormhook.emit('shop', ${eventType}, ${data}, ${key}) AS id`;
    return row.id;
  });
}

try {
  const [id, amount, eventType = "order.created"] = process.argv.slice(2);
  console.log(await placeOrder({ id, amount: Number(amount) }, eventType));
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
} finally {
  await prisma.$disconnect();
}
