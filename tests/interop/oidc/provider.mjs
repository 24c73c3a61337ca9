// A real OpenID provider (oidc-provider) on loopback, port 0: JWT access tokens by client_credentials, RS256 or
// ES256 by client, and keys that can be changed while it serves. It decides nothing about the gateway.

import { generateKeyPairSync, randomUUID } from "node:crypto";
import { createServer } from "node:http";
import { once } from "node:events";
import Provider from "oidc-provider";

export const AUDIENCE = "https://telemetry.example.com";
export const OTHER_AUDIENCE = "https://other.example.com";

// One key for each algorithm, as private JWKs.
export function freshKeys() {
  const pairs = [
    ["RS256", generateKeyPairSync("rsa", { modulusLength: 2048 })],
    ["ES256", generateKeyPairSync("ec", { namedCurve: "P-256" })],
  ];
  return pairs.map(([alg, { privateKey }]) => ({
    ...privateKey.export({ format: "jwk" }),
    alg,
    use: "sig",
    kid: randomUUID(),
  }));
}

export class TestProvider {
  #server;
  #handler;
  #keys = [];
  // How often its keys were fetched.
  fetches = 0;

  async start(keys) {
    this.#server = createServer((request, response) => {
      this.fetches += request.url === "/jwks" ? 1 : 0;
      this.#handler(request, response);
    });
    this.#server.listen(0, "127.0.0.1");
    await once(this.#server, "listening");
    this.issuer = `http://127.0.0.1:${this.#server.address().port}`;
    this.publish(keys);
  }

  // From now on it has these keys, and signs with the first one of each algorithm.
  publish(keys) {
    this.#keys = keys;
    const client = (client_id) => ({
      client_id,
      client_secret: "interop",
      grant_types: ["client_credentials"],
      redirect_uris: [],
      response_types: [],
    });
    const provider = new Provider(this.issuer, {
      jwks: { keys },
      clients: [client("RS256"), client("ES256")],
      cookies: { keys: ["interop"] },
      features: {
        devInteractions: { enabled: false },
        clientCredentials: { enabled: true },
        resourceIndicators: {
          enabled: true,
          getResourceServerInfo: (_, audience, { clientId }) => ({
            audience,
            scope: "export",
            accessTokenFormat: "jwt",
            accessTokenTTL: 600,
            jwt: { sign: { alg: clientId } },
          }),
        },
      },
    });
    this.#handler = provider.callback();
  }

  // An access token for an audience; without one it is opaque.
  async token(algorithm, audience) {
    const body = new URLSearchParams({ grant_type: "client_credentials" });
    if (audience) {
      body.set("resource", audience);
      body.set("scope", "export");
    }
    const authorization = `Basic ${Buffer.from(`${algorithm}:interop`).toString("base64")}`;
    const answer = await fetch(`${this.issuer}/token`, { method: "POST", body, headers: { authorization } });
    const told = await answer.json();
    if (!answer.ok) throw new Error(`the provider gave no token: ${JSON.stringify(told)}`);
    return told.access_token;
  }

  stop() {
    this.#server?.closeAllConnections();
    this.#server?.close();
  }
}
