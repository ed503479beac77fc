#!/usr/bin/env python3
"""The Python client as `tern-conform` tries it: docs/CONFORM.md. It does what lines of JSON say, and says what it shows."""

import json
import os
import random
import select
import sys
import time

import tern
import tern_pb2 as pb


def say(**what):
    print(json.dumps(what), flush=True)


class Tried:
    """A device that is told what to do. It is single-threaded: it looks for orders between pushes."""

    def __init__(self, device):
        self.device = device
        self.tags = {}  # By (chat, client_id): messages whose tags are not told yet.
        self.later = []  # (when, send): what was refused for now.
        self.orders = b""

    def run(self):
        while True:
            try:
                self.device.connect_with_backoff(attempts=1_000_000)
                self.tell_what_is_sent()
                while True:
                    self.obey()
                    self.again()
                    push = self.device.step(0.05)
                    if push is not None:
                        self.show(push)
                    self.tell_gone()
                    self.device.connection.keep_alive()
            except tern.Ended as ended:
                if ended.reason in (pb.REASON_REPLACED, pb.REASON_SESSION_REVOKED):
                    return say(ended={"reason": tern.reason_name(ended.reason)})
                time.sleep(ended.reconnect_after_ms / 1000)
            except tern.OtherStore:
                return say(ended={"reason": "another store"})
            self.device.disconnect()

    def obey(self):
        while select.select([sys.stdin], [], [], 0)[0]:
            piece = os.read(sys.stdin.fileno(), 65536)
            if not piece:
                raise SystemExit
            *lines, self.orders = (self.orders + piece).split(b"\n")
            for order in map(json.loads, lines):
                if "send" in order:
                    self.send(**order["send"])
                elif "have" in order:
                    chat = order["have"]["chat"]
                    entries = sorted(self.device.logs[chat].entries.items())
                    texts = [entry.body.decode(errors="replace") for _, entry in entries]
                    say(have={"chat": chat, "seqs": [seq for seq, _ in entries], "texts": texts})

    def send(self, chat, text, tag):
        number = self.device.last_client_id + 1
        self.tags[chat, number] = tag
        self.attempt(lambda: self.device.send(chat, text), chat, number)

    def attempt(self, send, chat, number):
        try:
            seq = send()
        except tern.Refused as refused:
            if refused.retry_after_ms:
                wait_s = refused.retry_after_ms / 1000 * random.uniform(1, 2)
                return self.later.append((time.monotonic() + wait_s, self.device.unsent[chat, number]))
            return say(refused={"tag": self.tags.pop((chat, number)), "why": str(refused)})
        self.told(chat, number, seq)

    def told(self, chat, number, seq):
        tag = self.tags.pop((chat, number), None)
        if tag is not None:
            say(sent={"tag": tag, "seq": seq})

    def again(self):
        due = [entry for entry in self.later if entry[0] <= time.monotonic()]
        for entry in due:
            self.later.remove(entry)
            send = entry[1]
            self.attempt(lambda: self.device._deliver(send), send.chat, send.client_id)

    def tell_what_is_sent(self):
        """What was sent again with the new connection has its place now."""
        self.later = []
        for chat, number in list(self.tags):
            for seq, entry in self.device.logs[chat].entries.items():
                if entry.client_id == number and entry.sender:
                    self.told(chat, number, seq)

    def show(self, push):
        if isinstance(push, pb.Entry):
            self.tell_what_is_sent()
            self.device.acknowledge(push.chat)
            text = push.body.decode(errors="replace")
            say(message={"chat": push.chat, "seq": push.seq, "own": bool(push.sender), "text": text})
        elif isinstance(push, pb.Receipt):
            log = self.device.logs[push.chat]
            marks = {"delivered_upto": log.others_delivered, "read_upto": log.others_read}
            say(receipt={"chat": push.chat, **marks})
        elif isinstance(push, pb.CaughtUp):
            for chat in list(self.device.logs):
                self.device.acknowledge(chat)

    def tell_gone(self):
        while self.device.gone:
            entry = self.device.gone.popleft()
            say(gone={"chat": entry.chat, "seq": entry.seq})


def main():
    host, port = os.environ["TERN_CONFORM_SERVER"].rsplit(":", 1)
    address, context = (host, int(port)), tern.tls_context(os.environ["TERN_CONFORM_CA"])
    path = os.path.join(os.environ["TERN_CONFORM_STATE"], "device.db")
    session = None
    if tern.State(path).get("session") is None:
        code = os.environ["TERN_CONFORM_CODE"]
        session = tern.register(address, context, os.environ["TERN_CONFORM_PHONE"], "Ann", lambda phone: code)
    Tried(tern.Device(address, context, session, path=path)).run()


if __name__ == "__main__":
    main()
