"""Writes each entry of a log anew by the package rfc8785, and compares: canonical.py ENTRIES. Prints how many there are."""
import json
import sys

import rfc8785

count = 0
for line in open(sys.argv[1], "rb"):
    line = line.rstrip(b"\n")
    assert rfc8785.dumps(json.loads(line)) == line, line
    count += 1
print(count)
