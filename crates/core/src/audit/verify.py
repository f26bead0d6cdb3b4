#!/usr/bin/env python3
"""Verifies an export of an audit log: python3 verify.py EXPORT PUBLIC_KEY.pem [EARLIER_CHECKPOINT...]

It takes Python's standard library and openssl, no network and no database. PUBLIC_KEY.pem is the key that you were given by another
way than the export; an earlier checkpoint is a file that you have kept. Exit code 0: all of it is as it was signed. 1: it is not.
"""
import base64, hashlib, json, pathlib, subprocess, sys, tempfile

def fail(what):
    sys.exit(f"NOT VERIFIED: {what}")

def sha(*parts):
    return hashlib.sha256(b"".join(parts)).digest()

def opened(note, key):
    """The lines of a signed note (C2SP signed-note), once openssl has verified its Ed25519 signature."""
    text, _, signatures = note.rpartition("\n\n")
    text += "\n"
    origin = text.split("\n")[0]
    der = subprocess.run(["openssl", "pkey", "-pubin", "-in", key, "-outform", "DER"], capture_output=True, check=True).stdout
    wanted = sha(origin.encode(), b"\n\x01", der[-32:])[:4]
    for line in signatures.splitlines():
        _, name, signature = line.split(" ")
        signature = base64.b64decode(signature)
        if name != origin or signature[:4] != wanted:
            continue
        with tempfile.TemporaryDirectory() as folder:
            message, signed = pathlib.Path(folder, "message"), pathlib.Path(folder, "signature")
            message.write_text(text, encoding="utf-8"), signed.write_bytes(signature[4:])
            if subprocess.run(["openssl", "pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", key, "-sigfile", signed, "-in", message],
                              capture_output=True).returncode == 0:
                return text.splitlines()
    fail(f"no signature of {key} on the note of {origin}")

def root(perfect):
    """The root over perfect trees that stand side by side, the largest first (RFC 6962)."""
    hashes = [hash for _, hash in perfect]
    top = hashes.pop() if hashes else sha()
    while hashes:
        top = sha(b"\x01", hashes.pop(), top)
    return top

def canonical(entry):
    ordered = lambda value: {name: ordered(value[name]) for name in sorted(value, key=lambda name: name.encode("utf-16-be"))} \
        if isinstance(value, dict) else [ordered(one) for one in value] if isinstance(value, list) else value
    return json.dumps(ordered(entry), ensure_ascii=False, separators=(",", ":")).encode()

def verify(folder, key, earlier, before):
    """Verifies the log in a folder, which continues the log `before`; its name, size and root."""
    origin, size, signed_root = opened((folder / "checkpoint").read_text(encoding="utf-8"), key)[:3]
    size, signed_root = int(size), base64.b64decode(signed_root)
    removals = [opened(note.rstrip("\n") + "\n", key) for note in (folder / "removals").read_text(encoding="utf-8").split("\n\n\n") if note.strip()]
    removals = [tuple(map(int, line[1].split(" ")[1:])) for line in removals if line[0] == origin and line[1].startswith("removed ")]
    known = {size: [signed_root]}
    for note in earlier:
        name, at, of = note[:3]
        if name == origin:
            known.setdefault(int(at), []).append(base64.b64decode(of))
    perfect, first_seq, index = [], None, -1
    for index, line in enumerate((folder / "entries").open("rb")):
        line = line.rstrip(b"\n")
        if line.startswith(b"removed "):
            if not any(first <= index <= last for first, last in removals):
                fail(f"{origin}: entry {index} was removed, and no signed statement says so")
            leaf = bytes.fromhex(line[8:].decode())
        else:
            entry, leaf = json.loads(line), sha(b"\x00", line)
            if canonical(entry) != line:
                fail(f"{origin}: entry {index} is not in the canonical form")
            if index == 0:
                first_seq = int(entry["first_seq"])
                if entry["kind"] != "opening" or entry["origin"] != origin:
                    fail(f"{origin}: entry 0 opens another log")
                left = entry.get("previous") or {"origin": None, "size": 0, "root": ""}
                if before and (left["origin"] != before[0] or int(left["size"]) < before[1]
                               or (int(left["size"]) == before[1] and left["root"] != before[2].hex())):
                    fail(f"{origin}: it does not continue {before[0]}")
                if before and int(left["size"]) > before[1]:
                    print(f"note: {before[0]}: entries {before[1]} to {int(left['size']) - 1} were lost: {entry['why']}")
            elif int(entry["seq"]) != first_seq + index - 1:
                fail(f"{origin}: entry {index} is row {entry['seq']}, and not {first_seq + index - 1}")
        level = 0
        while perfect and perfect[-1][0] == level:
            leaf, level = sha(b"\x01", perfect.pop()[1], leaf), level + 1
        perfect.append((level, leaf))
        if any(of != root(perfect) for of in known.pop(index + 1, [])):
            fail(f"{origin}: the first {index + 1} entries are not those that were signed")
    if known:
        fail(f"{origin}: {index + 1} entries are there, and {max(known)} were signed")
    print(f"verified: {origin}: {size} entries, root {signed_root.hex()}")
    return origin, size, signed_root

if len(sys.argv) < 3:
    sys.exit(__doc__)
export, key = pathlib.Path(sys.argv[1]), sys.argv[2]
earlier = [opened(pathlib.Path(path).read_text(encoding="utf-8"), key) for path in sys.argv[3:]]
logs = sorted(export.glob("log-*"), key=lambda log: int(log.name[4:]))
if not logs:
    fail(f"there is no log in {export}")
before = None
for log in logs:
    before = verify(log, key, earlier, before)
