#!/usr/bin/env python3
"""Clients that keep all duties but one: BAD says which. `tern-conform` must find each of them out."""

import os
import random
import sys

import conform
import tern
import tern_pb2 as pb

NEVER = 2**62


def long_bodies():
    tern.Connection.request = without_limits(tern.Connection.request)


def without_limits(request):
    def patched(self, message, *rest, **more):
        if isinstance(message, pb.Login):
            self.limits.body_bytes_max = 65536
        return request(self, message, *rest, **more)

    return patched


def another_number():
    """A message that was not answered is sent again as a new one."""
    deliver = tern.Device._deliver

    def patched(self, send):
        self.last_client_id += 1
        again = pb.Send(chat=send.chat, client_id=self.last_client_id, body=send.body)
        return deliver(self, again if conform.now_connecting else send)

    connect = tern.Device.connect

    def connecting(self):
        conform.now_connecting = True
        connect(self)
        conform.now_connecting = False

    conform.now_connecting = False
    tern.Device._deliver, tern.Device.connect = patched, connecting


def counter_is_not_raised():
    tern.random.randint = lambda low, high: 0


def sent_too_early():
    send = conform.Tried.send

    def patched(self, chat, text, tag):
        conform.say(sent={"tag": tag, "seq": 1})
        send(self, chat, text, tag)

    conform.Tried.send = patched


def acknowledged_and_not_stored():
    tern.State.put_entry = lambda self, chat, entry: None


def shown_twice():
    take = tern.Device._take_push

    def patched(self, timeout_s):
        push = self.connection.peek(timeout_s)
        taken = take(self, timeout_s)
        return push if isinstance(push, pb.Entry) else taken

    tern.Device._take_push = patched


def counts_have_plus_one():
    """The position is what was pushed last, whatever is missing before it."""
    take = tern.Log.take

    def patched(self, entry):
        took = take(self, entry)
        self.upto = max(self.upto, entry.seq)
        return took

    deliver = tern.Device._deliver

    def delivered(self, send):
        seq = deliver(self, send)
        self.acknowledge(send.chat)
        return seq

    tern.Log.take, tern.Device._deliver = patched, delivered


def lower_watermarks():
    def patched(self, receipt):
        log = self.logs[receipt.chat]
        log.others_delivered, log.others_read = receipt.delivered_upto, receipt.read_upto

    tern.Device._take_receipt = patched


def another_nonce():
    put = tern.State.put

    def patched(self, name, value):
        if name != "nonce":
            put(self, name, value)

    tern.State.put = patched


def no_backoff():
    tern.backoff_s = lambda attempt: 0.001


def does_not_wait():
    random.uniform = lambda low, high: 0.01


def comes_back_at_once():
    ended = tern.Ended.__init__

    def patched(self, reason=None, reconnect_after_ms=0, detail=""):
        ended(self, reason, 0, detail)

    tern.Ended.__init__ = patched


def fights():
    ended = tern.Ended.__init__

    def patched(self, reason=None, reconnect_after_ms=0, detail=""):
        ended(self, None if reason == pb.REASON_REPLACED else reason, reconnect_after_ms, detail)

    tern.Ended.__init__ = patched


def never_pings():
    tern.Connection.keep_alive = lambda self: NEVER


def trusts_everybody():
    import ssl

    def context(ca):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols([tern.ALPN])
        return context

    tern.tls_context = context


def trusts_every_store():
    tern.Device.open = lambda self: tern.Connection(self.address, self.context, **self.options)


def believes_its_own_past():
    tern.Device.generations = property(lambda self: [])


def tells_all():
    show = conform.Tried.show

    def patched(self, push):
        print(push, file=sys.stderr, flush=True)
        show(self, push)

    conform.Tried.show = patched


def erases_nothing():
    tern.Log.erase = lambda self, message: []


def keeps_edits():
    def patched(self, message):
        self.entries[message].body, self.entries[message].erased = b"", True
        return [self.entries[message]]

    tern.Log.erase = patched


def erases_only_what_others_wrote():
    """Another device of the account deletes what this one has said, and it stays here."""
    erase = tern.Log.erase

    def patched(self, message):
        return [] if self.entries[message].sender_device else erase(self, message)

    tern.Log.erase = patched


def ends_nothing():
    tern.Log.end = lambda self, now_ms: []


if __name__ == "__main__":
    globals()[os.environ["BAD"]]()
    conform.main()
