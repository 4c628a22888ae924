// The other end of `Talker`: one JSON command per line on stdin, one JSON answer per line on stdout. Ends the process
// with stdin, so that it can't outlive the run.

import { createInterface } from "node:readline";

export async function serve(commands) {
  process.stdout.write('{"ready":true}\n');
  for await (const line of createInterface({ input: process.stdin })) {
    let answer;
    try {
      const { do: name, ...options } = JSON.parse(line);
      answer = await commands[name](options);
    } catch (error) {
      answer = { error: error.stack };
    }
    process.stdout.write(`${JSON.stringify(answer)}\n`);
  }
  process.exit(0);
}
