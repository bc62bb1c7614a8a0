# SPDX-License-Identifier: Apache-2.0
"""What a model server keeps: series(FILE) yields (labels, [(ts_ms, value)]) of each chunk (model-server/ingest/chunk.h)."""
import json
import sqlite3
import struct

RAW = 255


def unpack(data):
    digits, n, at = data[1], data[2], 3
    assert data[0] == 1, "a chunk of another version"

    def number():
        nonlocal at
        result = shift = 0
        while True:
            byte = data[at]
            at += 1
            result |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return result >> 1 if result % 2 == 0 else -(result + 1 >> 1)

    stamps = [number()]
    step = 0
    for _ in range(n - 1):
        step += number()
        stamps.append(stamps[-1] + step)
    if digits == RAW:
        return list(zip(stamps, struct.unpack(f"<{n}d", data[at:at + 8 * n])))
    value, values = 0, []
    for _ in range(n):
        value += number()
        values.append(value / 10 ** digits)
    return list(zip(stamps, values))


def series(path):
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    for labels, data in db.execute("SELECT labels, data FROM chunk JOIN series USING (series_id)"):
        yield json.loads(labels), unpack(data)
    db.close()
