#!/usr/bin/env python3
"""Answers every message with its own text, through `tern rpc --socket PATH`. Killed anywhere and started again, it answers each once."""
import json, socket, sys

rpc = socket.socket(socket.AF_UNIX)
rpc.connect(sys.argv[1])


def ask(method, request, **params):
    rpc.sendall(json.dumps({"jsonrpc": "2.0", "id": request, "method": method, "params": params}).encode() + b"\n")


ask("subscribe", "subscribe")
for said in map(json.loads, rpc.makefile()):
    event = said.get("params", {})
    if said.get("method") == "event" and event["event"] == "message" and not event["own"] and "text" in event:
        ask("send", event["id"], chat=event["chat"], text=event["text"], key=f"echo {event['chat']} {event['seq']}")
    elif said.get("method") == "event":
        ask("ack", "ack", event=event["id"])
    elif isinstance(said.get("id"), int) and "result" in said:
        ask("ack", "ack", event=said["id"])
