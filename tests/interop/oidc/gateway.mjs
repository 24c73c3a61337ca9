// The real binary as a child, and a collector that counts what arrives. The child ends by its own pid.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

// Takes every export, and remembers which ones by the names of their spans: `export-SENDER-COUNT;`.
export class Collector {
  #server;
  names = new Map();
  problems = [];

  async start() {
    this.#server = createServer(async (request, response) => {
      const chunks = [];
      for await (const chunk of request) chunks.push(chunk);
      if (request.headers.authorization) this.problems.push("a token at the collector");
      const body = Buffer.concat(chunks).toString("latin1");
      for (const [name] of body.matchAll(/export-\d+-\d+;/g)) this.names.set(name, (this.names.get(name) ?? 0) + 1);
      response.writeHead(200, { "content-type": "application/x-protobuf" }).end();
    });
    this.#server.listen(0, "127.0.0.1");
    await once(this.#server, "listening");
    this.url = `http://127.0.0.1:${this.#server.address().port}`;
  }

  stop() {
    this.#server?.closeAllConnections();
    this.#server?.close();
  }
}

export class Gateway {
  #child;
  #folder = mkdtempSync(join(tmpdir(), "spangate-oidc-"));
  #addresses = {};
  log = [];

  async start(binary, config) {
    const file = join(this.#folder, "spangate.yaml");
    // JSON is YAML.
    writeFileSync(file, JSON.stringify(config));
    this.#child = spawn(binary, ["run", "--config", file], { stdio: ["ignore", "ignore", "pipe"] });
    const bound = new Promise((resolve, reject) => {
      createInterface({ input: this.#child.stderr }).on("line", (line) => {
        this.log.push(line);
        const entry = line.startsWith("{") ? JSON.parse(line) : {};
        if (entry.message === "listening") this.#addresses[entry.listener] = entry.address;
        if (this.#addresses.runners && this.#addresses.admin) resolve();
      });
      this.#child.once("exit", (code) => reject(new Error(`it ended with ${code}:\n${this.log.join("\n")}`)));
    });
    await bound;
  }

  get traces() {
    return `http://${this.#addresses.runners}/v1/traces`;
  }

  async ready() {
    for (let tries = 0; tries < 200; tries += 1) {
      const answer = await fetch(`http://${this.#addresses.admin}/-/readiness`);
      if (answer.ok) return;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    throw new Error("never ready");
  }

  async metrics() {
    return (await fetch(`http://${this.#addresses.admin}/metrics`)).text();
  }

  // For when there is no time to wait.
  kill() {
    this.#child?.kill("SIGKILL");
  }

  async stop() {
    if (!this.#child) return null;
    const ended = this.#child.exitCode === null ? once(this.#child, "exit") : [this.#child.exitCode];
    this.#child.kill("SIGTERM");
    const [code] = await ended;
    rmSync(this.#folder, { recursive: true });
    return code;
  }
}
