// Exports with the tokens of a real OpenID provider, through the real binary, while the provider changes its keys:
// none is lost. What is not meant for the gateway, or was changed on the way, is refused.

import assert from "node:assert/strict";
import { Collector, Gateway } from "./gateway.mjs";
import { AUDIENCE, OTHER_AUDIENCE, TestProvider, freshKeys } from "./provider.mjs";

const SENDERS = 8;
// Exports that a sender makes with one token: most of them are answered from the cache.
const EXPORTS_A_TOKEN = 5;
const PHASE_MS = 4000;

function spans(name) {
  const span = {
    traceId: "5b8efff798038103d269b633813fc60c",
    spanId: "eee19b7ec3c1b174",
    name,
    kind: 1,
    startTimeUnixNano: "1795000000000000000",
    endTimeUnixNano: "1795000000500000000",
  };
  const resource = { attributes: [{ key: "service.name", value: { stringValue: "forged" } }] };
  return { resourceSpans: [{ resource, scopeSpans: [{ scope: {}, spans: [span] }] }] };
}

async function send(gateway, token, name) {
  const headers = { "content-type": "application/json", ...(token && { authorization: `Bearer ${token}` }) };
  const answer = await fetch(gateway.traces, { method: "POST", headers, body: JSON.stringify(spans(name)) });
  await answer.arrayBuffer();
  return answer;
}

async function check(binary, provider, collector, gateway) {
  const before = freshKeys();
  await provider.start(before);
  await collector.start();
  await gateway.start(binary, {
    listeners: [{ name: "runners", address: "127.0.0.1:0", authentication: ["oidc"] }],
    admin: { address: "127.0.0.1:0" },
    oidc: {
      providers: [
        { issuer: provider.issuer, audiences: [AUDIENCE], algorithms: ["RS256", "ES256"], require: { scope: ["export"] } },
      ],
    },
    limits: { per_client_failures: { mode: "off" } },
    collector: { endpoints: [collector.url] },
    shutdown: { delay: "0s", deadline: "10s" },
  });
  await gateway.ready();

  // Senders that go on through everything that follows.
  const sent = [];
  const refused = [];
  const kids = new Set();
  let going = true;
  const sender = async (number) => {
    for (let count = 0; going; ) {
      const token = await provider.token(number % 2 ? "RS256" : "ES256", AUDIENCE);
      const header = JSON.parse(Buffer.from(token.split(".")[0], "base64url"));
      kids.add(`${header.alg} ${header.kid}`);
      for (let use = 0; use < EXPORTS_A_TOKEN && going; use += 1, count += 1) {
        const name = `export-${number}-${count};`;
        const answer = await send(gateway, token, name);
        sent.push(name);
        if (answer.status !== 200) refused.push(`${name}: ${answer.status}`);
      }
    }
  };
  const phase = () => new Promise((resolve) => setTimeout(resolve, PHASE_MS));
  const senders = Promise.all(Array.from({ length: SENDERS }, (_, number) => sender(number)));
  await phase();
  const after = freshKeys();
  provider.publish([...after, ...before]);
  await phase();
  provider.publish(after);
  await phase();
  going = false;
  await senders;

  assert.deepEqual(refused, [], "exports were refused");
  const lost = sent.filter((name) => collector.names.get(name) !== 1);
  assert.deepEqual(lost, [], "exports did not arrive once");
  assert.equal(kids.size, 4, "tokens of two algorithms before and after the change");
  assert.ok(provider.fetches <= 4, `${provider.fetches} fetches of keys`);
  assert.deepEqual(collector.problems, []);
  console.log(`ok      ${sent.length} exports over a change of keys, 0 lost, ${provider.fetches} fetches of keys`);

  for (const algorithm of ["RS256", "ES256"]) {
    const good = await provider.token(algorithm, AUDIENCE);
    const [header, payload, signature] = good.split(".");
    const claims = JSON.parse(Buffer.from(payload, "base64url"));
    const changed = Buffer.from(JSON.stringify({ ...claims, sub: "another" })).toString("base64url");
    const bad = {
      "of another audience": await provider.token(algorithm, OTHER_AUDIENCE),
      opaque: await provider.token(algorithm, undefined),
      changed: `${header}.${changed}.${signature}`,
      "without a signature": `${Buffer.from('{"alg":"none"}').toString("base64url")}.${payload}.`,
    };
    for (const [kind, token] of Object.entries(bad)) {
      const answer = await send(gateway, token, "export-99-99;");
      assert.equal(answer.status, 401, kind);
      assert.match(answer.headers.get("www-authenticate"), /^Bearer .*error="invalid_token"/, kind);
    }
    assert.equal((await send(gateway, good, "export-98-98;")).status, 200);
    console.log(`ok      ${algorithm}: refused: ${Object.keys(bad).join(", ")}`);
  }
  const bare = await send(gateway, undefined, "export-99-99;");
  assert.deepEqual([bare.status, bare.headers.get("www-authenticate")], [401, 'Bearer realm="spangate"']);
  assert.ok(!collector.names.has("export-99-99;"));
  const metrics = await gateway.metrics();
  assert.match(metrics, /spangate_jwks_age_seconds\{issuer="http:\/\/127/);
}

const parts = [new TestProvider(), new Collector(), new Gateway()];
const [provider, collector, gateway] = parts;
process.once("SIGTERM", () => {
  gateway.kill();
  process.exit(1);
});
try {
  await check(process.argv[2], ...parts);
} finally {
  const code = await gateway.stop();
  collector.stop();
  provider.stop();
  assert.equal(code, 0, gateway.log.join("\n"));
}
