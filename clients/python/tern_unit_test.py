#!/usr/bin/env python3
"""What the Python client does when a server is slow, forgetful or far away: against one that is made up."""

import itertools
import collections
import os
import random
import sys
import tempfile
import unittest

import tern
import tern_pb2 as pb

ME, PEER, STORE = 7, 9, b"0123456789abcdef"


def session():
    return pb.Session(user_id=ME, device_id=1, refresh_token="refresh", access_token="access", access_expires_ms=2**52)


def entry(seq, text="x", **fields):
    return pb.Entry(chat=PEER, seq=seq, time_ms=seq * 10, body=text.encode(), **fields)


class Server:
    """A made-up server. A test says what it answers to each kind of request; without a word it says the usual."""

    def __init__(self):
        self.asked, self.answers = [], {}
        self.pushes = collections.deque()
        self.generation, self.store = 100, STORE
        self.credited = 0

    def __call__(self, address, context, **options):
        return Connection(self)

    def requests(self, kind):
        return [request for request in self.asked if isinstance(request, kind)]


class Connection(tern.Connection):
    """A connection to it, without a socket."""

    def __init__(self, server):
        self.server, self.responses, self.pushes = server, {}, collections.deque()
        self.welcome = pb.Welcome(store=server.store, generation=server.generation)
        self.limits, self.timeout_s = pb.Limits(positions_max=1024), 1.0
        self.last_id = 0

    def request(self, message):
        copy = type(message)()
        copy.CopyFrom(message)
        self.server.asked.append(copy)
        answer = self.server.answers.get(type(message), usual)(message)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def read(self, deadline):
        if not self.server.pushes:
            return False
        self.pushes.append((self.server.pushes.popleft(), 10))
        return True

    def keep_alive(self):
        return 2**40

    def tls_session(self):
        return None

    def _confirm(self, size):
        self.server.credited += 1

    def close(self):
        pass


def usual(message):
    return {
        pb.Login: pb.LoggedIn(user_id=ME, device_id=1),
        pb.Resume: pb.Resumed(),
        pb.Acknowledge: pb.Acknowledged(),
        pb.Send: pb.Sent(seq=1, time_ms=10),
    }[type(message)]


def refused(reason, retry_after_ms=0):
    return tern.Refused(pb.Refused(reason=reason, retry_after_ms=retry_after_ms))


class ClientTest(unittest.TestCase):
    def setUp(self):
        self.server = Server()
        self.was = tern.Connection, tern.backoff_s
        tern.Connection, tern.backoff_s = self.server, lambda attempt: 0
        self.folder = tempfile.TemporaryDirectory()
        self.path = os.path.join(self.folder.name, "state")

    def tearDown(self):
        tern.Connection, tern.backoff_s = self.was
        self.folder.cleanup()

    def device(self, session=None):
        return tern.Device(("nowhere", 0), None, session, path=self.path)

    def step_until(self, device, done):
        for _ in range(100_000):
            if done():
                return
            device.step(0)
        self.fail("it never came")

    def test_a_refresh_whose_answers_are_lost_keeps_its_nonce_over_calls_and_restarts(self):
        self.server.answers[pb.Refresh] = lambda message: tern.Ended()
        device = self.device(session())
        self.assertRaises(tern.Ended, device.renew)
        self.assertRaises(tern.Ended, self.device().renew)
        fresh = session()
        fresh.refresh_token = "the next"
        self.server.answers[pb.Refresh] = lambda message: fresh
        device = self.device()
        device.renew()
        self.assertEqual(len({request.nonce for request in self.server.requests(pb.Refresh)}), 1)
        self.assertEqual(self.device().session.refresh_token, "the next")
        device.renew()
        last = self.server.requests(pb.Refresh)[-1]
        self.assertEqual(last.refresh_token, "the next")
        self.assertNotEqual(last.nonce, self.server.requests(pb.Refresh)[0].nonce)

    def test_a_device_with_12000_chats_comes_back_to_a_busy_server(self):
        device = self.device(session())
        with device.state:
            device.connection = Connection(self.server)
            for chat in range(1, 12_001):
                device._keep(pb.Entry(chat=100 + chat, seq=1, time_ms=1, body=b"x", sender=ME))
        for chat in range(1, 301):
            self.server.pushes.append(pb.Entry(chat=100 + chat, seq=2, time_ms=2, body=b"y"))

        def resume(message):
            self.assertLessEqual(len(message.positions), 1024)
            # It has too much to push, and pushes no more than its window without credit.
            if len(self.server.pushes) > 0:
                return refused(pb.REASON_OVERLOADED, 1)
            return pb.Resumed()

        self.server.answers[pb.Resume] = resume
        device.connect()
        listed = {position.chat for request in self.server.requests(pb.Resume) for position in request.positions}
        self.assertEqual(len(listed), 12_000)
        self.assertEqual(self.server.credited, 300)
        told = 0
        while isinstance(device.step(0), pb.Entry):
            told += 1
        self.assertEqual(told, 300)

    def test_a_push_is_confirmed_only_after_it_is_stored(self):
        device = self.device(session())
        device.connect()
        self.server.pushes.append(entry(1))
        kept = []
        confirm = Connection._confirm

        def looking(connection, size):
            kept.append(tern.State(self.path).logs()[PEER].upto)
            confirm(connection, size)

        Connection._confirm = looking
        try:
            device.step(0)
        finally:
            Connection._confirm = confirm
        self.assertEqual(kept, [1])

    def test_the_position_is_right_however_sent_overtakes_pushes(self):
        for seed in range(50):
            rng, log, upto = random.Random(seed), tern.Log(), 0
            seqs = list(range(1, 60)) + list(range(10, 20))
            rng.shuffle(seqs)
            here = set()
            for seq in seqs:
                log.take(entry(seq))
                here.add(seq)
                while upto + 1 in here:
                    upto += 1
                self.assertEqual((log.upto, log.has_gap()), (upto, len(here) > upto), f"seed {seed}")
            self.assertEqual(log.upto, 59)

    def test_client_ids_never_come_again_with_a_state_that_was_put_back(self):
        used = set()
        for _ in range(20):
            device = tern.Device(("nowhere", 0), None, session())
            device.connect()
            for _ in range(20):
                device.send(PEER, "x")
            ids = {request.client_id for request in self.server.requests(pb.Send)}
            self.assertEqual(len(ids), len(used) + 20)
            self.assertTrue(all(number < 2**53 for number in ids))
            used = ids

    def test_another_store_gets_no_token(self):
        self.device(session()).connect()
        self.server.store, before = b"another store...", len(self.server.asked)
        device = self.device()
        self.assertRaises(tern.OtherStore, device.connect)
        self.assertRaises(tern.OtherStore, device.renew)
        self.assertEqual(len(self.server.asked), before)

    def test_a_state_of_another_session_is_emptied(self):
        device = self.device(session())
        device.connect()
        self.server.pushes.extend([entry(1), entry(2)])
        device.step(0), device.step(0)
        self.assertEqual(self.device(session()).logs[PEER].upto, 2)
        other = session()
        other.device_id = 2
        device = self.device(other)
        self.assertEqual((len(device.logs), device.generations), (0, []))
        self.assertRaises(ValueError, tern.Device, ("nowhere", 0), None, None)

    def test_nothing_is_acknowledged_while_the_store_may_have_gone_back(self):
        device = self.device(session())
        device.connect()
        self.server.pushes.extend([entry(seq, f"old {seq}") for seq in range(1, 6)] + [pb.CaughtUp()])
        self.step_until(device, lambda: device.caught_up)
        device.acknowledge(PEER)
        self.assertEqual(device.generations, [100])
        self.server.generation = 50

        def resume(message):
            device.connection.pushes.append((pb.CaughtUp(), 10))  # Of before the response: it says nothing.
            return pb.Resumed(rewound=True)

        self.server.answers[pb.Resume] = resume
        device = self.device()
        device.connect()
        resumes = self.server.requests(pb.Resume)[1:]
        self.assertEqual([list(resume.generations) for resume in resumes], [[100], [100]])
        self.assertEqual([(p.chat, p.upto) for p in resumes[-1].positions], [(PEER, 5)])
        self.server.pushes.extend([pb.Rewound(chat=PEER, upto=2, head=4), entry(3, "old 3"), entry(4, "new 4")])
        self.server.pushes.append(pb.CaughtUp())
        acknowledged = len(self.server.requests(pb.Acknowledge))
        device.acknowledge(PEER)
        self.assertTrue(device.caught_up)
        self.assertEqual([a.delivered_upto for a in self.server.requests(pb.Acknowledge)[acknowledged:]], [4])
        self.assertEqual([gone.body for gone in device.gone], [b"old 4", b"old 5"])
        self.assertEqual(device.generations, [50])
        log = self.device().logs[PEER]
        self.assertEqual([log.entries[seq].body for seq in (2, 3, 4)], [b"old 2", b"old 3", b"new 4"])
        self.assertEqual((log.upto, len(log.gone), len(log.in_doubt)), (4, 2, 0))

    def test_what_stood_at_a_place_twice_is_in_doubt_twice(self):
        device = self.device(session())
        device.connect()
        self.server.pushes.extend([*(entry(seq, "old") for seq in range(1, 5)), pb.CaughtUp()])
        self.step_until(device, lambda: device.caught_up)
        self.server.answers[pb.Resume] = lambda message: pb.Resumed(rewound=True)
        device = self.device()
        device.connect()
        # What was pushed before the log was listed, the server has not any more when it says Rewound.
        self.server.pushes.extend([entry(3, "new"), pb.Rewound(chat=PEER, upto=2, head=3)])
        self.server.pushes.extend([entry(3, "newest"), pb.CaughtUp()])
        device.acknowledge(PEER)
        self.assertEqual([gone.body for gone in device.gone], [b"old", b"new", b"old"])
        self.assertEqual(self.device().logs[PEER].entries[3].body, b"newest")

    def test_an_entry_with_another_content_puts_the_log_back(self):
        device = self.device(session())
        device.connect()
        self.server.pushes.extend([*(entry(seq, "old") for seq in range(1, 5)), pb.CaughtUp(), entry(3, "new")])
        self.step_until(device, lambda: device.gone)
        log = device.logs[PEER]
        self.assertEqual((log.upto, log.entries[3].body, len(device.gone)), (3, b"new", 2))

    def test_what_is_deleted_is_kept_nowhere_in_whatever_order_it_comes(self):
        entries = [
            entry(1, "a secret"),
            entry(2, "another secret", kind=pb.KIND_EDIT, about=1),
            entry(3, "", kind=pb.KIND_DELETION, about=1),
            entry(4, "hello"),
            entry(5, "!", kind=pb.KIND_REACTION, about=4),
            entry(6, "hello?", kind=pb.KIND_EDIT, about=4),
        ]
        for order in itertools.permutations(entries):
            device, chat = tern.Device(("nowhere", 0), None, session()), entries[0].chat
            device.connect()
            for one in order:
                with device.state:
                    device._keep(pb.Entry.FromString(one.SerializeToString()))
            log = device.logs[chat]
            self.assertEqual((log.upto, log.reads(1), log.reads(4)), (6, None, "hello?"))
            self.assertEqual(list(log.reactions(4).values()), ["!"])
            self.assertNotIn(b"secret", b"".join(row[0] for row in device.state.db.execute("SELECT entry FROM entries")))
            # It comes again as the server has it: that is the same entry.
            with device.state:
                gone = pb.Entry(chat=chat, seq=1, time_ms=entries[0].time_ms, sender=entries[0].sender, erased=True)
                self.assertFalse(device._keep(gone))
            self.assertEqual(log.upto, 6)

    def test_the_recorded_session_is_read_and_says_itself_again(self):
        path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../proto/session.txt")
        kinds = set()
        with open(path, encoding="utf-8") as file:
            frames = [line.split() for line in file if line.strip() and not line.startswith("#")]
        for who, digits in frames:
            data = bytes.fromhex(digits)
            frame = pb.ClientFrame() if who.endswith(">") else pb.ServerFrame()
            oneof = "request" if who.endswith(">") else "message"
            begin = next(at for at, byte in enumerate(data) if byte < 128) + 1
            length = sum((byte & 127) << (7 * at) for at, byte in enumerate(data[:begin]))
            frame.ParseFromString(data[begin:])
            self.assertEqual((len(data) - begin, frame.SerializeToString()), (length, data[begin:]))
            kinds.add(frame.WhichOneof(oneof))
        self.assertGreater(len(kinds), 30)

    def test_what_is_unknown_is_ignored(self):
        self.assertEqual(str(refused(4711)), "reason 4711: ")
        self.assertIn("reason 4711", str(tern.Ended(4711)))


if __name__ == "__main__":
    sys.argv = sys.argv[:1]  # What run-test.sh says of a server does not matter here.
    unittest.main()
