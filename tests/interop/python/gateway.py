"""The real binary as a child: its configuration in a temporary file, its ports from its log."""

import json
import subprocess
import tempfile
import threading
import time
from pathlib import Path

CONFIG = """
listeners: [{{ name: runners, address: "127.0.0.1:0", signals: [traces, metrics, logs] }}]
admin: {{ address: "127.0.0.1:0" }}
gitlab: {{ url: "{authority}" }}
collector: {{ endpoints: ["{collector}"] }}
shutdown: {{ delay: 0s, deadline: 10s }}
"""


class Gateway:
    """Ends with the `with` block, by its own pid."""

    def __init__(self, binary, authority, collector):
        self._directory = tempfile.TemporaryDirectory()
        config = Path(self._directory.name) / "spangate.yaml"
        config.write_text(CONFIG.format(authority=authority, collector=collector))
        self.log = []
        self._ports = {}
        self._bound = threading.Event()
        self._child = subprocess.Popen(
            [binary, "run", "--config", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self._child.stderr:
            self.log.append(line)
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if entry.get("message") == "listening":
                self._ports[entry["listener"]] = entry["address"]
                if {"runners", "admin"} <= self._ports.keys():
                    self._bound.set()
        self._bound.set()

    def __enter__(self):
        self._bound.wait(30)
        if "runners" not in self._ports:
            self.__exit__()
            raise RuntimeError("the gateway did not start:\n" + "".join(self.log))
        return self

    def __exit__(self, *_):
        self._child.terminate()
        try:
            self.exit_code = self._child.wait(20)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self.exit_code = self._child.wait()
        self._reader.join(5)
        self._directory.cleanup()

    @property
    def address(self):
        return self._ports["runners"]
