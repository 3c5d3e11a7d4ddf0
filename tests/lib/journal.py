# SPDX-License-Identifier: Apache-2.0
"""The rows of a journal, read without headrace (broker/store_pack.c says how they are packed)."""
import struct

ENTRY = struct.Struct("<IQ")  # where an envelope ends among those of its row, and its sum


def unpack(position, more, bytes_):
    """(position, envelope) of each event of a row."""
    if more == 0:
        return [(position, bytes_)]
    head, begin, found = (more + 1) * ENTRY.size, 0, []
    for number, (end, _) in enumerate(ENTRY.iter_unpack(bytes_[:head])):
        found.append((position + number, bytes_[head + begin:head + end]))
        begin = end
    return found


def events(database, feed):
    """(position, envelope) of all that a journal holds, in order."""
    for row in database.execute(f"SELECT pos, more, bytes FROM journal_{feed} ORDER BY pos"):
        yield from unpack(*row)


def _varint(bytes_, at):
    value = 0
    for number in range(9):
        byte = bytes_[at + number]
        if number == 8:
            return value << 8 | byte, at + 9
        value = value << 7 | byte & 127
        if byte < 128:
            return value, at + number + 1
    raise ValueError("no varint")


def events_of_cell(page, at):
    """How many events the cell of a table's leaf holds: more than one where it is a journal's row,
    whose third column is a number and whose fifth the last, a blob."""
    _, at = _varint(page, at)  # bytes of the record
    _, at = _varint(page, at)  # rowid
    size, begin = _varint(page, at)
    types, sizes = [], {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8, 7: 8, 8: 0, 9: 0}
    while begin < at + size:
        kind, begin = _varint(page, begin)
        types.append(kind)
    is_row = len(types) == 5 and types[0] == 0 and types[4] >= 12 and types[4] % 2 == 0 and all(
        kind in sizes for kind in types[:4])
    if not is_row:
        return 1
    begin = at + size + sizes[types[1]]
    more = int.from_bytes(page[begin:begin + sizes[types[2]]], "big")
    return (1 if types[2] == 9 else more) + 1
