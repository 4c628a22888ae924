// Makes a peer's tables in an empty database, as a process of its own: for benchmarks that aren't written in JavaScript.

const config = JSON.parse(process.argv[2]);
const { prepare } = await import(`./adapters/${config.adapter}.js`);
await prepare(config);
process.stdout.write('{"ready":true}\n');
process.exit(0);
