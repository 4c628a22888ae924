// Sources of unnoticed wrong figures: the rule of rounds, the ratios, the ids.

import assert from "node:assert/strict";
import { test } from "node:test";
import { hasStamp, idText, newId, stamped } from "../src/events.js";
import { clean, figure, kept, median, ratio } from "../src/rounds.js";

const round = (before, peer, after) => ({ before: { rate: before }, peer: { rate: peer }, after: { rate: after } });

test("the median of an even number is between the two middle ones", () => {
  assert.equal(median([4, 1, 3, 2]), 2.5);
  assert.equal(median([9, 1, 3]), 3);
});

test("a round beside an outlier of ours is discarded", () => {
  const rounds = [round(100, 10, 95), round(95, 10, 70), round(70, 10, 105)];
  const marks = clean(rounds, [100, 95, 70, 105].map((rate) => ({ rate })));
  assert.deepEqual(marks, [true, false, false]);
  assert.deepEqual(kept(rounds, marks), [rounds[0]]);
});

test("if no round is clean, all are kept", () => {
  const rounds = [round(100, 10, 10)];
  assert.deepEqual(kept(rounds, [false]), rounds);
});

test("a ratio is the mean of ours around a round divided by the peer's", () => {
  assert.equal(ratio([round(80, 20, 120)], "rate"), 5);
  assert.equal(ratio([round(80, 20, 120)], "waiting_bytes"), undefined);
  assert.equal(figure([{ rate: 1 }, {}], "waiting_bytes"), undefined);
});

test("an id's text is its number in Crockford's base 32", () => {
  assert.equal(idText(32n), "evt_00000000000000000000000010");
  assert.equal(idText((1n << 128n) - 1n), "evt_7ZZZZZZZZZZZZZZZZZZZZZZZZZ");
  assert.notEqual(newId().text, newId().text);
});

test("the producer's time keeps the event's length and place", () => {
  const body = `{"data":{"at":"${"0".repeat(20)}","order":1}}`;
  assert.ok(hasStamp(body));
  assert.equal(JSON.stringify(stamped(JSON.parse(body), 1_234n)), body.replace("0".repeat(20), "1234".padStart(20, "0")));
});
