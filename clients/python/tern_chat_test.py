#!/usr/bin/env python3
"""Two people chat on a real server, through the client that was written from docs/PROTOCOL.md.

Each check below is a promise of that document. Prints what it checked; exits with 1 at the first promise not kept.
"""

import argparse
import hashlib
import random
import secrets
import shlex
import socket
import ssl
import subprocess
import sys
import tempfile
import time

import tern
import tern_media
import tern_pb2 as pb

# As long as anything may take here. Not a promise of the protocol: a bound, so that a failure ends.
PATIENCE_S = 15.0


def main():
    arguments = parse_arguments()
    host, _, port = arguments.server.rpartition(":")
    world = World((host.strip("[]"), int(port)), arguments.ca, shlex.split(arguments.code_command))
    for check in (
        tls_is_refused_unless_it_is_tern,
        the_opening_has_an_order,
        bytes_that_are_no_frames_end_the_connection,
        two_people_register,
        they_chat_both_ways,
        they_change_their_minds,
        a_file_goes_with_a_message,
        receipts_turn,
        a_retry_keeps_its_seq,
        what_was_missed_comes_on_resume,
        history_pages_both_ways,
        a_narrow_window_holds_nothing_back,
        what_cant_be_done_is_refused_by_reason,
        who_comes_back_resumes_the_tls_session,
        a_second_connection_replaces_the_first,
        the_whole_opening_may_be_sent_at_once,
        tokens_rotate,
        a_stolen_refresh_token_ends_the_session,
    ):
        try:
            check(world)
        except Exception as error:  # Whatever it is, it names the check and fails the run.
            print(f"FAILED  {describe(check)}: {type(error).__name__}: {error}", file=sys.stderr)
            if not isinstance(error, AssertionError):
                raise
            return 1
        print(f"ok      {describe(check)}", flush=True)
    print("all promises kept")
    return 0


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--server", required=True, metavar="HOST:PORT")
    parser.add_argument("--ca", required=True, metavar="FILE", help="PEM certificates to trust")
    parser.add_argument(
        "--code-command",
        required=True,
        metavar="COMMAND",
        help="prints the one-time code of the phone that is appended to it as the last argument",
    )
    return parser.parse_args()


def describe(check):
    return check.__name__.replace("_", " ")


class World:
    """The server under test, and the two people once they exist."""

    def __init__(self, address, ca, code_command):
        self.address, self.ca, self.code_command = address, ca, code_command
        self.context = tern.tls_context(ca)
        self.ann = self.bob = None

    def connection(self, **options):
        return tern.Connection(self.address, self.context, **options)

    def code_of(self, phone):
        """Asks the command until it knows the code: delivery is not part of the protocol."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            run = subprocess.run([*self.code_command, phone], capture_output=True, text=True, check=False)
            digits = "".join(c for c in run.stdout if c.isdigit())
            if run.returncode == 0 and len(digits) == 6:
                return digits
            if time.monotonic() > deadline:
                raise AssertionError(f"the code command gave no six digits: {run.stderr.strip()}")
            time.sleep(0.1)

    def newcomer(self, name):
        phone = "+1999" + "".join(random.choices("0123456789", k=9))
        session = tern.register(self.address, self.context, phone, name, self.code_of)
        device = tern.Device(self.address, self.context, session)
        device.phone = phone
        return device


# ---------------------------------------------------------------------------------------------------------------------
# What the checks are made of.


def expect(condition, sentence):
    if not condition:
        raise AssertionError(sentence)


def expect_equal(found, wanted, what):
    expect(found == wanted, f"{what}: {brief(found)}, but {brief(wanted)} was to be expected")


def brief(value):
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:90]} ... {text[-90:]}"


def expect_refused(reason, action):
    try:
        outcome = action()
    except tern.Refused as refused:
        expect_equal(pb.Reason.Name(refused.reason), pb.Reason.Name(reason), "the reason of a refusal")
        return refused
    raise AssertionError(f"{pb.Reason.Name(reason)} was to be expected, but {type(outcome).__name__} came")


def expect_ended(reason, action):
    try:
        outcome = action()
    except tern.Ended as ended:
        found = "a broken connection" if ended.reason is None else pb.Reason.Name(ended.reason)
        expect_equal(found, pb.Reason.Name(reason), "the reason of a GoAway")
        return
    raise AssertionError(f"GoAway({pb.Reason.Name(reason)}) was to be expected, but {outcome!r} came")


def step_until(device, done, what):
    """Takes pushes of a device until `done()`."""
    deadline = time.monotonic() + PATIENCE_S
    while not done():
        expect(time.monotonic() < deadline, f"{what} did not come")
        device.step(timeout_s=0.5)


def come_back(device):
    """Connects and waits for CaughtUp."""
    device.connect_with_backoff()
    step_until(device, lambda: device.caught_up, "CaughtUp")


def texts(device, chat):
    """The chat as a device has it, which must be without a gap."""
    log = device.logs[chat.session.user_id]
    expect_equal(sorted(log.entries), list(range(1, log.upto + 1)), "the seqs of a chat")
    times = [log.entries[seq].time_ms for seq in sorted(log.entries)]
    expect(times == sorted(times), "a time falls within a log")
    # What is no text is compared as well as one.
    return [log.entries[seq].body.decode(errors="replace") for seq in sorted(log.entries)]


def raw(connection, frame):
    """Sends bytes as they are, past the library."""
    connection.socket.sendall(frame)


def framed(message):
    body = message.SerializeToString()
    return tern.encode_varint(len(body)) + body


def next_push(connection):
    return connection.push(PATIENCE_S)


# ---------------------------------------------------------------------------------------------------------------------
# The checks, in the order in which they are run.


def tls_is_refused_unless_it_is_tern(world):
    expect_alert(world, "PROTOCOL_VERSION", TLSv1_2=True)
    expect_alert(world, "NO_APPLICATION_PROTOCOL", alpn="http/1.1")
    expect_alert(world, "NO_APPLICATION_PROTOCOL", alpn=None)
    with socket.create_connection(world.address, PATIENCE_S) as plain:
        plain.sendall(framed(pb.ClientFrame(id=1, hello=pb.Hello(version_min=1, version_max=1))))
        plain.settimeout(PATIENCE_S)
        try:
            answer = b""
            while piece := plain.recv(4096):
                answer += piece
        except ConnectionResetError:
            answer = b""
        # At most a TLS alert: content type 21.
        expect(answer[:1] in (b"", b"\x15"), "plain text was answered with more than a TLS alert")


def expect_alert(world, name, alpn=tern.ALPN, TLSv1_2=False):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(world.ca)
    if alpn is not None:
        context.set_alpn_protocols([alpn])
    if TLSv1_2:
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    with socket.create_connection(world.address, PATIENCE_S) as plain:
        try:
            with context.wrap_socket(plain, server_hostname=world.address[0]) as secure:
                secure.recv(1)
        except ssl.SSLError as error:
            # Not every OpenSSL has a name for every alert; the number of one is 1000 more than TLS's.
            number = {"PROTOCOL_VERSION": "1070", "NO_APPLICATION_PROTOCOL": "1120"}[name]
            found = f"{error.reason} {error}".upper().replace(" ", "_")
            expect(name in found or number in found, f"the alert {name} was to be expected, but {error} came")
            return
    raise AssertionError(f"the alert {name} was to be expected, but the connection was taken")


def the_opening_has_an_order(world):
    connection = world.connection()
    limits = connection.limits
    expect_equal(connection.welcome.version, 1, "the version")
    expect(limits.body_bytes_max > 0 and limits.frame_bytes_max > limits.body_bytes_max, "limits are missing")
    expect(connection.request(pb.Ping()).time_ms > 0, "Pong has no time")
    send = pb.Send(chat=4097, client_id=1, body=b"too early")
    expect_refused(pb.REASON_UNAUTHENTICATED, lambda: connection.request(send))
    expect_refused(pb.REASON_UNAUTHENTICATED, lambda: connection.request(pb.Resume()))
    expect_refused(pb.REASON_TOKEN_INVALID, lambda: connection.request(pb.Login(access_token="made up")))
    expect_refused(pb.REASON_INVALID_PHONE, lambda: connection.request(pb.Register(phone="15550001")))
    # Field 2047, a message without bytes, behind id 200: a kind of request that no server knows yet.
    raw(connection, bytes.fromhex("06 08 c8 01 fa 7f 00"))
    expect_refused(pb.REASON_UNIMPLEMENTED, lambda: connection.wait(200))
    connection.request(pb.Ping())
    expect_ended(pb.REASON_UNEXPECTED, lambda: connection.request(pb.Hello(version_min=1, version_max=1)))

    late = bare(world)
    raw(late, framed(pb.ClientFrame(id=1, ping=pb.Ping())))
    expect_ended(pb.REASON_UNEXPECTED, lambda: late.wait(1))

    future = bare(world)
    raw(future, framed(pb.ClientFrame(id=1, hello=pb.Hello(version_min=1000, version_max=1001))))
    refused = expect_refused(pb.REASON_VERSION_UNSUPPORTED, lambda: future.wait(1))
    versions = (refused.message.version_min, refused.message.version_max)
    expect(versions[0] <= 1 <= versions[1], f"the server speaks {versions}, which leaves version 1 out")
    try:
        next_push(future)
    except tern.Ended as ended:
        expect(ended.reason is None, "GoAway follows a refused Hello")
    else:
        raise AssertionError("the connection stays open without a common version")


def bare(world):
    """A connection on which nothing has been said."""
    connection = tern.Connection.__new__(tern.Connection)
    connection.open(world.address, world.context)
    return connection


def bytes_that_are_no_frames_end_the_connection(world):
    connection = world.connection()
    raw(connection, bytes([3, 0xFF, 0xFF, 0xFF]))
    expect_ended(pb.REASON_MALFORMED, lambda: next_push(connection))

    connection = world.connection()
    raw(connection, framed(pb.ClientFrame(id=0, ping=pb.Ping())))
    expect_ended(pb.REASON_MALFORMED, lambda: next_push(connection))

    connection = world.connection()
    raw(connection, tern.encode_varint(connection.limits.frame_bytes_max_before_login + 1))
    expect_ended(pb.REASON_FRAME_TOO_LARGE, lambda: next_push(connection))

    connection = world.connection()
    raw(connection, bytes([0xFF, 0xFF, 0xFF, 0xFF]))
    expect_ended(pb.REASON_FRAME_TOO_LARGE, lambda: next_push(connection))


def two_people_register(world):
    connection, phone = world.connection(), "+1888" + "".join(random.choices("0123456789", k=9))
    sent = connection.request(pb.Register(phone=phone))
    expect_equal(sent.digits, 6, "the digits of a code")
    expect(sent.attempts > 0 and sent.expires_in_ms > 0, "CodeSent tells neither attempts nor time")
    code = world.code_of(phone)
    wrong = f"{(int(code) + 1) % 1_000_000:06d}"
    verify = pb.Verify(
        phone=phone, code=wrong, name="Nobody", device_name="python", registration=sent.registration
    )
    for _ in range(sent.attempts):
        expect_refused(pb.REASON_CODE_WRONG, lambda: connection.request(verify))
    verify.code = code
    expect_refused(pb.REASON_TOO_MANY_ATTEMPTS, lambda: connection.request(verify))
    connection.close()

    world.ann, world.bob = world.newcomer("Ann"), world.newcomer("Bob")
    expect(world.ann.session.user_id != world.bob.session.user_id, "two people have one user id")
    for person in (world.ann, world.bob):
        come_back(person)
        connection = person.connection
        login = pb.Login(access_token=person.session.access_token)
        expect_refused(pb.REASON_UNEXPECTED, lambda c=connection, l=login: c.request(l))
        found = connection.request(pb.Lookup(phone=person.phone))
        expect_equal(found.user_id, person.session.user_id, "a person looked up")


def they_chat_both_ways(world):
    ann, bob = world.ann, world.bob
    to_bob, to_ann = bob.session.user_id, ann.session.user_id
    expect_refused(pb.REASON_UNKNOWN_USER, lambda: ann.connection.request(pb.Lookup(user_id=to_bob)))
    for turn in range(1, 11):
        sender, chat = (ann, to_bob) if turn % 2 else (bob, to_ann)
        receiver, back = (bob, to_ann) if turn % 2 else (ann, to_bob)
        expect_equal(sender.send(chat, f"message {turn}"), turn, "the seq of a message")
        step_until(receiver, lambda r=receiver, b=back, t=turn: r.logs[b].upto >= t, f"message {turn}")
        entry = receiver.logs[back].entries[turn]
        expect_equal((entry.chat, entry.sender), (back, 0), "chat and sender of a pushed entry")
        expect(entry.time_ms > 0, "an entry has no time")
    expected = [f"message {turn}" for turn in range(1, 11)]
    expect_equal(texts(ann, bob), expected, "the chat as Ann has it")
    expect_equal(texts(bob, ann), expected, "the chat as Bob has it")
    expect_equal(ann.connection.request(pb.Lookup(user_id=to_bob)).name, "Bob", "the name of one's chat")

    # Pipelined: seqs in the order of the sending, whatever the order of the responses.
    first = ann.last_client_id + 1
    sends = [pb.Send(chat=to_bob, client_id=first + i, body=b"in a row %d" % i) for i in range(20)]
    ids = [ann.connection.start(send) for send in sends]
    seqs = [ann.connection.wait(request_id).seq for request_id in ids]
    expect_equal(seqs, list(range(11, 31)), "the seqs of pipelined messages")
    ann.last_client_id += 20
    ann.history(to_bob, after=10)
    step_until(bob, lambda: bob.logs[to_ann].upto >= 30, "what was pipelined")
    expect_equal(texts(ann, bob), texts(bob, ann), "both sides of the chat")

    # To oneself: one log, one member.
    note = ann.send(to_ann, "a note to myself")
    expect_equal(note, 1, "the seq of a note to oneself")


def they_change_their_minds(world):
    ann, bob = world.ann, world.bob
    to_bob, to_ann = bob.session.user_id, ann.session.user_id
    said = ann.send(to_bob, "helo")
    step_until(bob, lambda: said in bob.logs[to_ann].entries, "Bob gets it")
    ann.edit(to_bob, said, "hello")
    answer = bob.send(to_ann, "hello?", about=said)
    reacted = bob.react(to_ann, said, "\N{THUMBS UP SIGN}")
    step_until(ann, lambda: ann.logs[to_bob].upto >= reacted, "Ann gets the reaction")
    expect_equal(ann.logs[to_bob].reads(said), "hello", "what it reads now")
    expect_equal(ann.logs[to_bob].entries[answer].about, said, "what Bob replies to")
    expect_equal(ann.logs[to_bob].reactions(said), {to_bob: "\N{THUMBS UP SIGN}"}, "the reactions")
    expect_refused(pb.REASON_NOT_ALLOWED, lambda: bob.edit(to_ann, said, "mine"))
    expect_refused(pb.REASON_NO_SUCH_MESSAGE, lambda: bob.react(to_ann, reacted + 9, "?"))
    deleted = ann.delete(to_bob, said)
    step_until(bob, lambda: bob.logs[to_ann].upto >= deleted, "Bob hears that it is deleted")
    expect_equal(bob.logs[to_ann].reads(said), None, "what it reads now")
    page = bob.history(to_ann, after=said - 1, limit=1)
    expect(page.entries[0].erased and not page.entries[0].body, "the server still has it")
    expect_refused(pb.REASON_MESSAGE_DELETED, lambda: ann.edit(to_bob, said, "again"))


def a_file_goes_with_a_message(world):
    ann, bob = world.ann, world.bob
    to_bob, to_ann = bob.session.user_id, ann.session.user_id
    content = "".join(f"{line}: some text that is long enough for several pieces\n" for line in range(20_000)).encode()
    with tempfile.TemporaryDirectory() as folder:
        sent, came = f"{folder}/sent.txt", f"{folder}/came.txt"
        with open(sent, "wb") as file:
            file.write(content)
        medium = tern_media.upload(ann, world.ca, sent, "text/plain", piece_bytes=300_000)
        expect_equal(len(medium), 16, "the bytes of what a medium is called")
        digest = hashlib.sha256(content).digest()
        about = pb.Media(type="text/plain", name="sent.txt", bytes=len(content), caption="for Bob", sha256=digest)
        said = ann.send_medium(to_bob, about, medium)
        step_until(bob, lambda: said in bob.logs[to_ann].entries, "the message with a file")
        entry = bob.logs[to_ann].entries[said]
        expect_equal((entry.kind, list(entry.media)), (pb.KIND_MEDIA, [medium]), "what the message has")
        expect_equal(pb.Media.FromString(entry.body).caption, "for Bob", "what is said of it")

        # What was cut off goes on where it is.
        with open(came, "wb") as file:
            file.write(content[:123_456])
        taken = tern_media.download(bob, world.ca, (to_ann, said, medium), came)
        expect_equal(taken, len(content) - 123_456, "the bytes that were left to come")
        with open(came, "rb") as file:
            expect(hashlib.sha256(file.read()).digest() == digest, "other bytes came than were sent")
        expect_equal(tern_media.download(bob, world.ca, (to_ann, said, medium), came), 0, "the bytes after the last")

        executable = f"{folder}/no.txt"
        with open(executable, "wb") as file:
            file.write(b"\x7fELF" + bytes(1000))
        try:
            tern_media.upload(ann, world.ca, executable, "application/x-executable")
        except tern_media.Refused as refused:
            expect_equal(refused.status, 415, "the status of a type that is not taken")
        else:
            raise AssertionError("a program was taken as a medium")
    nobody = world.newcomer("Nobody")
    come_back(nobody)
    link = pb.GetMedium(chat=to_ann, seq=said, medium=medium)
    expect_refused(pb.REASON_NO_SUCH_MESSAGE, lambda: nobody.connection.request(link))
    nobody.disconnect()


def receipts_turn(world):
    ann, bob = world.ann, world.bob
    to_bob, to_ann = bob.session.user_id, ann.session.user_id
    head, log = bob.logs[to_ann].upto, ann.logs[to_bob]
    bob.acknowledge(to_ann)
    step_until(ann, lambda: log.others_delivered >= head, "the receipt of the delivery")
    expect_equal((log.others_delivered, log.others_read), (head, 0), "Bob's watermarks before he has read")
    bob.acknowledge(to_ann, read=True)
    step_until(ann, lambda: log.others_read >= head, "the receipt of the reading")
    expect_equal((log.others_delivered, log.others_read), (head, head), "Bob's watermarks")

    beyond = pb.Acknowledge(chat=to_ann, delivered_upto=head + 1)
    expect_refused(pb.REASON_INVALID_ARGUMENT, lambda: bob.connection.request(beyond))
    bob.connection.request(pb.Acknowledge(chat=to_ann, delivered_upto=1))
    page = ann.history(to_bob)
    expect_equal(page.delivered_upto, head, "Bob's watermark after he acknowledged less than before")

    # Without an id: not answered, but done.
    seq = ann.send(to_bob, "read me")
    step_until(bob, lambda: bob.logs[to_ann].upto >= seq, "the message")
    bob.connection.tell(pb.Acknowledge(chat=to_ann, read_upto=seq))
    step_until(ann, lambda: log.others_read >= seq, "the receipt of an acknowledgement without an id")
    expect_equal(log.others_delivered, seq, "delivered, which read implies")


def a_retry_keeps_its_seq(world):
    ann, to_bob = world.ann, world.bob.session.user_id
    ann.last_client_id += 1
    send = pb.Send(chat=to_bob, client_id=ann.last_client_id, body=b"once only")
    first = ann.connection.request(send)
    again = ann.connection.request(send)
    expect_equal((again.seq, again.time_ms), (first.seq, first.time_ms), "seq and time of a retry")
    ann.disconnect()
    come_back(ann)
    again = ann.connection.request(send)
    expect_equal((again.seq, again.time_ms), (first.seq, first.time_ms), "seq and time of a retry after a reconnect")
    changed = pb.Send(chat=to_bob, client_id=ann.last_client_id, body=b"something else")
    expect_refused(pb.REASON_CLIENT_ID_REUSED, lambda: ann.connection.request(changed))
    page = ann.history(to_bob)
    expect_equal(page.head, first.seq, "the head after retries")


def what_was_missed_comes_on_resume(world):
    ann, bob = world.ann, world.bob
    to_bob, to_ann = bob.session.user_id, ann.session.user_id
    step_until(bob, lambda: bob.logs[to_ann].upto >= ann.logs[to_bob].upto, "the chat so far")
    bob.acknowledge(to_ann)
    had = bob.logs[to_ann].upto
    bob.disconnect()
    for i in range(1, 101):
        ann.send(to_bob, f"while Bob is away {i}")
    come_back(bob)
    expect_equal(bob.logs[to_ann].upto, had + 100, "what Bob has at CaughtUp")
    expect_equal(texts(bob, ann), texts(ann, bob), "both sides of the chat")

    # Bob reads while Ann is away; she asks for the receipts by listing the chat.
    ann.disconnect()
    bob.acknowledge(to_ann, read=True)
    come_back(ann)
    log = ann.logs[to_bob]
    expect_equal((log.others_delivered, log.others_read), (had + 100, had + 100), "receipts that Ann missed")

    # A connection that ends between Send and Sent: the retry is part of coming back.
    ann.last_client_id += 1
    send = pb.Send(chat=to_bob, client_id=ann.last_client_id, body=b"is it there?")
    ann.unsent[to_bob, send.client_id] = send
    ann.connection.start(send)
    ann.disconnect()
    come_back(ann)
    expect(not ann.unsent, "a message is still unsent after the reconnect")
    step_until(bob, lambda: bob.logs[to_ann].upto >= had + 101, "the retried message")
    copies = [text for text in texts(bob, ann) if text == "is it there?"]
    expect_equal(len(copies), 1, "copies of a retried message")

    # Another device of Bob's, which has nothing: it gets every log from the start.
    session = tern.register(world.address, world.context, bob.phone, "", world.code_of)
    expect_equal(session.user_id, to_bob, "the user of a second device")
    expect(session.device_id != bob.session.device_id, "two devices have one id")
    second = tern.Device(world.address, world.context, session)
    come_back(second)
    expect_equal(texts(second, ann), texts(bob, ann), "the chat on Bob's new device")
    bob.send(to_ann, "from my old phone")
    seq = bob.logs[to_ann].upto
    step_until(second, lambda: second.logs[to_ann].upto >= seq, "what Bob's other device sent")
    entry = second.logs[to_ann].entries[seq]
    own = (to_bob, bob.session.device_id, bob.last_client_id)
    expect_equal((entry.sender, entry.sender_device, entry.client_id), own, "the author of one's own entry")
    step_until(ann, lambda: ann.logs[to_bob].upto >= seq, "the message")
    ann.send(to_bob, "to both of you")
    step_until(second, lambda: second.logs[to_ann].upto > seq, "the message on the second device")
    second.acknowledge(to_ann, read=True)
    step_until(bob, lambda: bob.logs[to_ann].own_read > seq, "that Bob's other device has read on")
    second.disconnect()


def history_pages_both_ways(world):
    ann, to_bob = world.ann, world.bob.session.user_id
    head = ann.history(to_bob).head
    expect(head > 100, "the chat is too short for pages")

    found, after = [], 0
    while True:
        page = ann.history(to_bob, after=after, limit=30)
        found += [entry.seq for entry in page.entries]
        expect(all(entry.chat == 0 for entry in page.entries), "entries of a page repeat the chat")
        if not page.more:
            break
        after = found[-1]
    expect_equal(found, list(range(1, head + 1)), "the seqs of history forwards")

    found, before = [], 0
    while True:
        page = ann.history(to_bob, before=before, limit=30)
        seqs = [entry.seq for entry in page.entries]
        expect_equal(seqs, sorted(seqs), "the order within a page backwards")
        found = seqs + found
        if not page.more:
            break
        before = found[0]
    expect_equal(found, list(range(1, head + 1)), "the seqs of history backwards")
    expect_equal(list(ann.history(to_bob, after=head).entries), [], "what follows the head")
    page = ann.history(to_bob, limit=1_000_000)
    expect(len(page.entries) <= ann.connection.limits.history_entries_max, "a page is longer than the limit")


def a_narrow_window_holds_nothing_back(world):
    ann, bob = world.ann, world.bob
    to_bob, to_ann = bob.session.user_id, ann.session.user_id
    step_until(bob, lambda: bob.logs[to_ann].upto >= ann.logs[to_bob].upto, "the chat so far")
    bob.acknowledge(to_ann)
    had = bob.logs[to_ann].upto
    bob.disconnect()
    for i in range(1, 31):
        ann.send(to_bob, f"drop by drop {i}")
    bob.options = {"push_frames_max": 4, "push_bytes_max": 0}
    come_back(bob)
    expect_equal(bob.logs[to_ann].upto, had + 30, "what came through a window of 4 frames")
    bob.options = {}
    bob.disconnect()

    # Unconfirmed, the pushes stop at the window; and a position says better than an acknowledgement where to begin.
    mean = world.connection(push_frames_max=4, push_bytes_max=0)
    mean.request(pb.Login(access_token=bob.session.access_token))
    mean.request(pb.Resume(positions=[pb.Position(chat=to_ann, upto=0)]))
    deadline = time.monotonic() + PATIENCE_S
    while len(mean.pushes) < 4:
        expect(mean.read(deadline), "4 pushes did not come through a window of 4")
    for _ in range(20):
        mean.request(pb.Ping())
    found = [(type(message).__name__, getattr(message, "seq", None)) for message, _ in mean.pushes]
    expect_equal(found, [("Entry", seq) for seq in (1, 2, 3, 4)], "the pushes of a window of 4")
    mean.close()
    come_back(bob)


def what_cant_be_done_is_refused_by_reason(world):
    ann, to_bob = world.ann, world.bob.session.user_id
    connection, limits = ann.connection, ann.connection.limits

    def send(chat=to_bob, body=b"x"):
        ann.last_client_id += 1
        return connection.request(pb.Send(chat=chat, client_id=ann.last_client_id, body=body))

    head = ann.history(to_bob).head
    expect_refused(pb.REASON_UNKNOWN_USER, lambda: send(chat=2**42 - 1))
    expect_refused(pb.REASON_INVALID_ARGUMENT, lambda: send(chat=0))
    expect_refused(pb.REASON_INVALID_ARGUMENT, lambda: send(body=b""))
    expect_refused(pb.REASON_BODY_TOO_LARGE, lambda: send(body=bytes(limits.body_bytes_max + 1)))
    expect_refused(pb.REASON_UNKNOWN_USER, lambda: connection.request(pb.Lookup(phone="+19990000000009")))
    expect_refused(pb.REASON_INVALID_ARGUMENT, lambda: connection.request(pb.Lookup()))
    too_many = pb.Resume(positions=[pb.Position(chat=to_bob)] * (limits.positions_max + 1))
    expect_refused(pb.REASON_INVALID_ARGUMENT, lambda: connection.request(too_many))
    expect_equal(ann.history(to_bob).head, head, "the head after refusals alone")
    longest = send(body=bytes(limits.body_bytes_max))
    expect_equal(longest.seq, head + 1, "the seq of the longest message")
    ann.history(to_bob, after=head)
    step_until(world.bob, lambda: world.bob.logs[ann.session.user_id].upto > head, "the longest message")

    # What is unknown within a known request is ignored: field 1000 of Ping, a varint.
    raw(connection, bytes.fromhex("09 08 c8 9a 0c 2a 03 c0 3e 01"))
    expect(connection.wait(200_008).time_ms > 0, "a Ping with an unknown field is not answered")


def who_comes_back_resumes_the_tls_session(world):
    device = world.ann
    for _ in range(3):
        device.disconnect()
        come_back(device)
        expect(device.connection.socket.session_reused, "a handshake in full")
    other = world.connection()
    expect(not other.socket.session_reused, "the session of a connection that it is not of")
    other.close()


def a_second_connection_replaces_the_first(world):
    ann = world.ann
    first = ann.connection
    ann.connection = None
    come_back(ann)
    expect_ended(pb.REASON_REPLACED, lambda: drain(first))
    expect(ann.connection.request(pb.Ping()).time_ms > 0, "the newer connection does not answer")


def drain(connection):
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        connection.push(0.5)


def the_whole_opening_may_be_sent_at_once(world):
    ann, to_bob = world.ann, world.bob.session.user_id
    ann.disconnect()
    head = world.bob.history(ann.session.user_id).head
    long = bytes(10_000)  # Longer than a frame may be before Login.
    requests = [
        pb.Hello(version_min=1, version_max=1),
        pb.Ping(),
        pb.Login(access_token=ann.session.access_token),
        pb.Resume(),
        pb.Send(chat=to_bob, client_id=ann.last_client_id + 1, body=long),
        pb.Send(chat=to_bob, client_id=ann.last_client_id + 2, body=b"and a short one"),
    ]
    ann.last_client_id += 2
    connection = bare(world)
    frames = [
        pb.ClientFrame(id=i, **{tern.REQUEST_FIELDS[type(request).__name__]: request})
        for i, request in enumerate(requests, start=1)
    ]
    raw(connection, b"".join(framed(frame) for frame in frames))
    responses = [connection.wait(frame.id) for frame in frames]
    found = [type(response).__name__ for response in responses]
    expect_equal(found, ["Welcome", "Pong", "LoggedIn", "Resumed", "Sent", "Sent"], "the responses")
    expect_equal([sent.seq for sent in responses[-2:]], [head + 1, head + 2], "the seqs of both messages")
    connection.close()
    come_back(ann)


def tokens_rotate(world):
    ann = world.ann
    before = ann.session
    nonce = secrets.token_bytes(16)
    refresh = pb.Refresh(refresh_token=before.refresh_token, nonce=nonce)
    connection = world.connection()
    after = connection.request(refresh)
    expect_equal((after.user_id, after.device_id), (before.user_id, before.device_id), "whose session it is")
    expect(after.refresh_token != before.refresh_token, "the refresh token was not exchanged")
    again = connection.request(refresh)
    expect_equal(again.refresh_token, after.refresh_token, "the refresh token of a retry")
    short = pb.Refresh(refresh_token=after.refresh_token, nonce=b"short")
    expect_refused(pb.REASON_INVALID_ARGUMENT, lambda: connection.request(short))
    made_up = pb.Refresh(refresh_token="made up", nonce=nonce)
    expect_refused(pb.REASON_TOKEN_INVALID, lambda: connection.request(made_up))
    connection.close()
    ann.session = after
    ann.disconnect()
    come_back(ann)
    ann.renew()
    expect(ann.session.refresh_token != after.refresh_token, "the refresh token was not exchanged again")


def a_stolen_refresh_token_ends_the_session(world):
    carol = world.newcomer("Carol")
    come_back(carol)
    stolen = carol.session.refresh_token
    carol.renew()
    connection = world.connection()
    thief = pb.Refresh(refresh_token=stolen, nonce=secrets.token_bytes(16))
    expect_refused(pb.REASON_TOKEN_REUSED, lambda: connection.request(thief))
    owner = pb.Refresh(refresh_token=carol.session.refresh_token, nonce=secrets.token_bytes(16))
    expect_refused(pb.REASON_SESSION_REVOKED, lambda: connection.request(owner))
    login = pb.Login(access_token=carol.session.access_token)
    expect_refused(pb.REASON_SESSION_REVOKED, lambda: connection.request(login))
    expect_ended(pb.REASON_SESSION_REVOKED, lambda: drain(carol.connection))
    connection.close()


if __name__ == "__main__":
    sys.exit(main())
