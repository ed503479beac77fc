#!/usr/bin/env python3
"""Two people chat while their server's data is put back from a copy, and then is set up anew.

Whoever runs this does to the server what it says on standard output, a word a line, and answers each with a line:
`copy` (stop it, copy its data, start it), `restore` (stop it, put the copy back, start it), `reset` (stop it, remove its
data, start it). server/tests/python.rs does.
"""

import os
import sys
import tempfile

import tern
from tern_chat_test import World, come_back, describe, expect, expect_equal, parse_arguments, shlex, step_until, texts


def main():
    arguments = parse_arguments()
    host, _, port = arguments.server.rpartition(":")
    world = World((host.strip("[]"), int(port)), arguments.ca, shlex.split(arguments.code_command))
    with tempfile.TemporaryDirectory() as folder:
        world.folder = folder
        for check in (
            two_people_chat,
            what_came_after_the_copy_is_there_before_it_is_put_back,
            what_the_store_has_no_more_is_gone_for_both,
            all_that_is_said_afterwards_arrives_and_nothing_else_is_told_as_delivered,
            another_store_gets_not_even_a_token,
        ):
            check(world)
            print(f"ok      {describe(check)}", flush=True)
    return 0


def please(what):
    print(what, flush=True)
    expect(sys.stdin.readline(), f"nobody has done it: {what}")


def again(world, device):
    """The same device after a restart of its program."""
    device.disconnect()
    device.state.db.close()
    return tern.Device(world.address, world.context, path=device.path)


def two_people_chat(world):
    for name in ("ann", "bob"):
        first = world.newcomer(name)
        path = os.path.join(world.folder, name)
        device = tern.Device(world.address, world.context, first.session, path=path)
        device.path = path
        come_back(device)
        setattr(world, name, device)
    world.to_ann, world.to_bob = world.ann.session.user_id, world.bob.session.user_id
    for i in range(1, 4):
        world.ann.send(world.to_bob, f"before {i}")
    step_until(world.bob, lambda: world.bob.logs[world.to_ann].upto == 3, "what was said before")
    world.bob.acknowledge(world.to_ann)
    step_until(world.ann, lambda: world.ann.logs[world.to_bob].others_delivered == 3, "the receipt")


def what_came_after_the_copy_is_there_before_it_is_put_back(world):
    please("copy")
    ann, bob = world.ann, world.bob
    come_back(ann)
    come_back(bob)
    for i in range(1, 6):
        ann.send(world.to_bob, f"lost {i}")
    step_until(bob, lambda: bob.logs[world.to_ann].upto == 8, "what was said after the copy")
    bob.acknowledge(world.to_ann, read=True)
    step_until(ann, lambda: ann.logs[world.to_bob].others_read == 8, "the receipt")
    expect(not ann.gone and not bob.gone, "something is gone although nothing was put back")


def what_the_store_has_no_more_is_gone_for_both(world):
    please("restore")
    path = world.bob.path
    world.bob = again(world, world.bob)
    world.bob.path = path
    for device, chat in ((world.ann, world.to_bob), (world.bob, world.to_ann)):
        come_back(device)
        log = device.logs[chat]
        expect_equal([entry.body.decode() for entry in device.gone], [f"lost {i}" for i in range(1, 6)], "what is gone")
        expect_equal((log.upto, len(log.entries)), (3, 3), "what is there")
        expect_equal(len(log.gone), 5, "what is kept of what is gone")
        expect(log.others_delivered <= 3 and log.others_read <= 3, "a watermark beyond the head is still believed")


def all_that_is_said_afterwards_arrives_and_nothing_else_is_told_as_delivered(world):
    ann, bob = world.ann, world.bob
    bob.disconnect()
    for i in range(1, 7):
        expect_equal(ann.send(world.to_bob, f"after {i}"), 3 + i, "the seq of a message")
    page = ann.history(world.to_bob)
    expect_equal((page.head, page.delivered_upto), (9, 3), "the head, and what Bob has, while he is away")
    come_back(bob)
    expected = [f"before {i}" for i in range(1, 4)] + [f"after {i}" for i in range(1, 7)]
    expect_equal(texts(bob, ann), expected, "the chat as Bob has it")
    expect_equal(texts(ann, bob), expected, "the chat as Ann has it")
    bob.acknowledge(world.to_ann)
    step_until(ann, lambda: ann.logs[world.to_bob].others_delivered == 9, "the receipt")
    # It is known for good: a restart asks no more, and tells nothing twice.
    path = bob.path
    world.bob = bob = again(world, bob)
    bob.path = path
    come_back(bob)
    expect_equal(texts(bob, ann), expected, "the chat as Bob has it after a restart")
    expect(not bob.gone, "what is gone is told twice")
    expect_equal(len(bob.logs[world.to_ann].gone), 5, "what is kept of what is gone")


def another_store_gets_not_even_a_token(world):
    please("reset")
    for device in (world.ann, world.bob):
        device.disconnect()
        try:
            device.connect_with_backoff()
        except tern.OtherStore:
            continue
        raise AssertionError("another store is taken for the one that the device is of")


if __name__ == "__main__":
    sys.exit(main())
