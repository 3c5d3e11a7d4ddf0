# SPDX-License-Identifier: Apache-2.0
"""The python worker: loads one handler and answers calls over HEADRACE_FD (docs/worker-protocol.md)."""

import asyncio
import contextvars
import gc
import importlib.util
import inspect
import io
import itertools
import json
import operator
import os
import socket
import struct
import sys
import threading
import time
import traceback

import headrace

HELLO, CALL, ANSWER, LOG, BYE = 1, 2, 3, 4, 5
VERSION = 1
TEXT, JSON, DATA = 1, 2, 4
RETRY, DROP, DEAD, NOT_RUN = 1, 2, 3, 4
DEBUG, INFO, WARN, ERROR = 0, 1, 2, 3
BATCHES, PLACES = 1, 2  # of HELLO

_HEAD = struct.Struct("<IBBHQ")
_CALL = struct.Struct("<6I")
_EVENT = struct.Struct("<13I")
_PAIR = struct.Struct("<2I")
_HASH = struct.Struct("<Q")
_ATTEMPT = struct.Struct("<I")
_EXCEPTION = struct.Struct("<IIqI")
_RESULT = struct.Struct("<6I")
_LOG = struct.Struct("<4I")

LINE_MAX = 1024  # characters of one log line; longer ones come in pieces
RESULTS_MAX = 1024  # of one answer
ANSWER_MAX = 48 << 20  # bytes of all results of one answer
AHEAD_MAX = 64  # events whose data is decoded before it is asked for,
GARBAGE = 10_000  # new objects until cycles are looked for: more than a batch holds, else each call is searched
AHEAD_BYTES = 256 << 10  # and about how many bytes of them

NO_EVENT = b""
_current = contextvars.ContextVar("headrace_event", default=None)  # the record of an event
_newest = NO_EVENT  # for threads that a handler starts: they have no context of their own


def _begin(record):
    global _newest
    _newest = record
    _current.set(record)


_PARTS = {"id": 0, "source": 1, "type": 2, "subject": 3, "time": 4, "content_type": 5, "key": 6, "raw": 7}
_SIZES = [struct.Struct(f"<{part + 1}I") for part in range(len(_PARTS))]  # of a part and those before it
_SIZES_AT = 16
_NUMBERS = {"attempt": 1, "replay": 2}
_json_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode  # json.dumps makes one each time
_new = object.__new__
_scan = json.JSONDecoder().scan_once


def _find_data(record):
    """Where the data of a record lies, its size, the flags."""
    fields = _EVENT.unpack_from(record)
    return _EVENT.size + sum(fields[4:11]), fields[11], fields[3]


def _value(raw, flags):
    """Data as a handler gets it."""
    if flags & JSON:
        return json.loads(raw) if raw else None
    return raw.decode() if flags & TEXT else raw


class Ahead:
    """Decodes the data of the call's events: for a handler that asks for one after the other, that of more
    and more events at each step; for others, that of the event they ask for."""

    def __init__(self, events=(), body=b"", places=((), (), ())):
        self.events = events
        self.body = body
        self.places = places  # columns: where the data lies, its size, its flags
        self.next = 0  # the data of this event and of those behind it was neither asked for nor put
        self.step = 1
        self.step_max = max(1, min(AHEAD_MAX, AHEAD_BYTES * len(events) // max(1, len(body))))
        self.lock = threading.RLock()  # the handler's threads may ask

    def has(self, event):
        return event._index < len(self.events) and self.events[event._index] is event

    def read(self, event):
        if not self.has(event):  # of a call that is over
            begin, size, flags = _find_data(event._record)
            event._data = _value(event._record[begin:begin + size], flags)
            return
        with self.lock:
            at = event._index
            self.step = min(self.step * 2, self.step_max) if at == self.next > 0 else 1
            self._decode(at, self.step)

    def _decode(self, first, count):
        body, chunk, at = self.body, slice(first, first + count), first
        begins, sizes, flags = self.places
        try:
            for event, begin, size, kind in zip(self.events[chunk], begins[chunk], sizes[chunk], flags[chunk]):
                raw = body[begin:begin + size]
                text, end = "", -1
                if kind & JSON:  # json.loads() first looks for other encodings and white space: few have any
                    try:
                        text = raw.decode()
                        value, end = _scan(text, 0)
                    except (ValueError, StopIteration):
                        pass
                event._data = value if end == len(text) else _value(raw, kind)
                at += 1
        except Exception:
            if at == first:
                raise  # else: it is told to who asks for that one
        self.next = max(self.next, at)

    def put(self, event, value):
        with self.lock:
            if self.has(event):
                self.next = max(self.next, event._index + 1)
            event._data = value


NOT_AHEAD = Ahead()
_ahead = NOT_AHEAD  # of the call that runs


class Event:
    """One event: attributes by name or by key; data decoded when it is JSON, raw the bytes as they came.

    What the handler does not ask for is not read: a slot is filled by __getattr__ at its first use."""

    __slots__ = (*_PARTS, *_NUMBERS, "extensions", "_record", "_index", "_data", "_key_hash")

    data = property(operator.attrgetter("_data"), lambda self, value: _ahead.put(self, value))

    def _read_rest(self):
        record = self._record
        fields = _EVENT.unpack_from(record)
        at = _EVENT.size + sum(fields[4:12])
        self.extensions = {}
        for _ in range(fields[12]):
            name, value = _PAIR.unpack_from(record, at)
            at += _PAIR.size
            self.extensions[record[at:at + name].decode()] = record[at + name:at + name + value].decode()
            at += name + value
        self._key_hash = _HASH.unpack_from(record, at)[0] if len(record) - at >= _HASH.size else 0

    def __getattr__(self, name):
        part = _PARTS.get(name)
        if part is not None:
            record = self._record
            sizes = _SIZES[part].unpack_from(record, _SIZES_AT)
            end = _EVENT.size + sum(sizes)
            value = record[end - sizes[-1]:end]
            value = value if name == "raw" else value.decode()
            setattr(self, name, value)
            return value
        if name == "_data":
            _ahead.read(self)
            return self._data
        if name in _NUMBERS:
            setattr(self, name, _EVENT.unpack_from(self._record)[_NUMBERS[name]])
            return getattr(self, name)
        if name in ("extensions", "_key_hash"):
            self._read_rest()
            return getattr(self, name)
        try:
            if not name.startswith("_"):
                return self.extensions[name]
            raise KeyError(name)
        except KeyError:
            raise AttributeError(f"the event has no attribute {name!r}") from None

    def __getitem__(self, name):
        if name in self.extensions:
            return self.extensions[name]
        if name.startswith("_"):
            raise KeyError(name)
        try:
            return getattr(self, name)
        except AttributeError:
            raise KeyError(name) from None

    def __iter__(self):
        raise TypeError("an event is no list: only a handler named handle_batch gets many at once")

    def get(self, name, default=None):
        try:
            return self[name]
        except KeyError:
            return default

    def __repr__(self):
        return f"Event(id={self.id!r}, type={self.type!r}, subject={self.subject!r})"


class Log:
    def __init__(self, link):
        self._link = link

    def _write(self, level, text, fields):
        for name, value in fields.items():
            text += f" {name}={value}"
        self._link.log(level, text)

    def debug(self, text, **fields):
        self._write(DEBUG, text, fields)

    def info(self, text, **fields):
        self._write(INFO, text, fields)

    def warning(self, text, **fields):
        self._write(WARN, text, fields)

    def error(self, text, **fields):
        self._write(ERROR, text, fields)


class Context:
    """What belongs to this call and not to the event."""

    def __init__(self, link, function, version, lane, deadline, events):
        self.log = Log(link)
        self.function = function
        self.version = version
        self.lane = lane
        self.deadline = deadline  # time.time() at which the daemon gives up
        self.attempt = 1
        self._events = events
        self._indexes = None  # by id(), from the first emit() with an event
        self._cause = 0 if len(events) == 1 else None
        self._results = []

    def _index(self, event):
        if self._indexes is None:
            self._indexes = {id(own): index for index, own in enumerate(self._events)}
        return self._indexes.get(id(event))

    def emit(self, type, data, subject="", content_type="", event=None):
        """A further result event of this type. In handle_batch: event, from which of the events it comes."""
        cause = self._cause
        if event is not None:
            cause = self._index(event)
        if cause is None:
            raise ValueError("emit(): event= must be one of the events of the call")
        self._results.append(_result(cause, data, type, subject, content_type))


class Link:
    """The socket to the daemon."""

    def __init__(self, fd):
        self.socket = socket.socket(fileno=fd)
        self.lock = threading.Lock()  # the handler's threads may print

    def send(self, kind, call, body):
        with self.lock:
            self.socket.sendall(_HEAD.pack(len(body), kind, VERSION, 0, call) + body)

    def _exactly(self, size):
        """So many bytes; fewer at the socket's end. The kernel collects them, nothing is copied here."""
        got = self.socket.recv(size, socket.MSG_WAITALL) if size else b""
        while 0 < len(got) < size:  # a signal came between
            more = self.socket.recv(size - len(got), socket.MSG_WAITALL)
            if not more:
                break
            got += more
        return got

    def receive(self):
        head = self._exactly(_HEAD.size)
        if len(head) < _HEAD.size:
            return None
        size, kind, _, _, call = _HEAD.unpack(head)
        body = self._exactly(size)
        return (kind, call, body) if len(body) == size else None

    def log(self, level, text):
        record = _current.get()
        record = _newest if record is None else record
        event, attempt = b"", 0
        if record:
            _, attempt, _, _, size, *_ = _EVENT.unpack_from(record)
            event = record[_EVENT.size:_EVENT.size + size]
        for line in str(text).splitlines():
            for at in range(0, len(line), LINE_MAX):
                piece = line[at:at + LINE_MAX].encode("utf-8", "replace")
                self.send(LOG, 0, _LOG.pack(level, attempt, len(event), len(piece)) + event + piece)


class Tagged(io.TextIOBase):
    """sys.stdout and sys.stderr: whole lines go to the daemon with the id of their event."""

    encoding = "utf-8"
    errors = "replace"

    def __init__(self, link, level, plain):
        self._link = link
        self._level = level
        self._plain = plain  # what it replaces: the daemon takes its lines too
        self.rest = ""

    def writable(self):
        return True

    def fileno(self):
        return self._plain.fileno()

    @property
    def buffer(self):
        return self._plain.buffer

    def write(self, text):
        self.rest += text
        while "\n" in self.rest:
            line, self.rest = self.rest.split("\n", 1)
            self._link.log(self._level, line)
        return len(text)

    def flush(self):
        if self.rest:
            self._link.log(self._level, self.rest)
            self.rest = ""


def _result(cause, value, type="", subject="", content_type=""):
    if isinstance(value, (bytes, bytearray, memoryview)):
        flags, data = 0, bytes(value)
    elif isinstance(value, str):
        flags, data = TEXT, value.encode()
    else:
        flags = TEXT | JSON
        try:
            data = _json_encode(value).encode()
        except (TypeError, ValueError) as error:
            raise TypeError(f"the result cannot be told as JSON: {error}") from None
    type, content_type, subject = type.encode(), content_type.encode(), subject.encode()
    sizes = len(type), len(content_type), len(subject), len(data)
    return b"".join((_RESULT.pack(cause, flags, *sizes), type, content_type, subject, data))


def _exception(index, outcome, why, after_ms=-1):
    why = why[:1024].encode("utf-8", "replace")
    return _EXCEPTION.pack(index, outcome, after_ms, len(why)) + why


def _is_ours(path):
    return os.path.abspath(path) == os.path.abspath(__file__)


def _place(error):
    """ValueError: not an image (thumb.py:12), of the innermost frame that is the user's."""
    place = ""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not _is_ours(f.filename)]
    here = os.path.join(os.getcwd(), "")
    own = [f for f in frames if os.path.abspath(f.filename).startswith(here)] or frames
    if own:
        place = f" ({os.path.basename(own[-1].filename)}:{own[-1].lineno})"
    if isinstance(error, SyntaxError) and error.filename:
        place = f" ({os.path.basename(error.filename)}:{error.lineno})"
    return f"{type(error).__name__}: {error}{place}"


def _user_frames(frames):
    """The traceback without our own frames at its head; None when there are no others."""
    while frames is not None and _is_ours(frames.tb_frame.f_code.co_filename):
        frames = frames.tb_next
    return frames


def _failure(index, error):
    if isinstance(error, headrace.Drop):
        return _exception(index, DROP, str(error))
    if isinstance(error, headrace.Dead):
        return _exception(index, DEAD, str(error))
    if isinstance(error, headrace.Retry):
        return _exception(index, RETRY, str(error), error.after_ms)
    trace = traceback.format_exception(type(error), error, _user_frames(error.__traceback__))
    print("".join(trace[-8:]), file=sys.stderr, end="")
    return _exception(index, RETRY, _place(error))


def _settled(error):
    """Does what comes after it in its key go on?"""
    return isinstance(error, (headrace.Drop, headrace.Dead))


class Answer:
    """What is known of a call's events so far; they are told in order."""

    def __init__(self, events):
        self.events = events
        self.exceptions = []
        self.results = []
        self.failed = set()  # key hashes
        self.size = 0

    def may_run(self, index):
        """False, and not run is its outcome, behind a failed event of its key."""
        key = self.events[index]._key_hash
        if key and key in self.failed:
            self._not_run(index, "an earlier event of its key failed")
            return False
        return True

    def _not_run(self, index, why):
        self.exceptions.append(_exception(index, NOT_RUN, why))
        self.failed.add(self.events[index]._key_hash)

    def fail(self, index, error):
        self.exceptions.append(_failure(index, error))
        if not _settled(error):
            self.failed.add(self.events[index]._key_hash)

    def give(self, index, results):
        size = sum(map(len, results))
        if len(results) > RESULTS_MAX or size > ANSWER_MAX:
            self.fail(index, headrace.Dead(f"its {len(results)} results have {size} bytes together: "
                                           f"at most {RESULTS_MAX} and {ANSWER_MAX} bytes"))
        elif len(self.results) + len(results) > RESULTS_MAX or self.size + size > ANSWER_MAX:
            self._not_run(index, "the results of the call are full")
        else:
            self.results += results
            self.size += size

    def frame(self):
        return b"".join([_PAIR.pack(len(self.exceptions), len(self.results)), *self.exceptions, *self.results])


class Worker:
    def __init__(self, link, outputs, handler, is_batch):
        self.link = link
        self.outputs = outputs
        self.handler = handler
        self.is_batch = is_batch
        self.loop = None
        self.wants_context = len(inspect.signature(handler).parameters) > 1

    def run(self, what, context):
        value = self.handler(what, context) if self.wants_context else self.handler(what)
        if value is not None and inspect.isawaitable(value):
            if self.loop is None:
                self.loop = asyncio.new_event_loop()

            async def wait():
                return await value

            value = self.loop.run_until_complete(wait())
        return value

    def one_by_one(self, events, context, handle):
        answer = Answer(events)
        for index, event in enumerate(events):
            if answer.failed and not answer.may_run(index):
                continue
            _begin(event._record)
            context._cause, context._results = index, []
            (context.attempt,) = _ATTEMPT.unpack_from(event._record, _ATTEMPT.size)
            try:
                value = handle(event, context)
                if isinstance(value, BaseException):  # of a batch of one
                    raise value
                if value is not None:
                    context._results.append(_result(index, value))
            except Exception as error:  # whatever the handler throws is its answer
                answer.fail(index, error)
            else:
                if context._results:
                    answer.give(index, context._results)
            for out in self.outputs:
                if out.rest:
                    out.flush()
        return answer

    def outcomes(self, events, context):
        """handle_batch(events, ctx): None, or a list with one outcome (value or exception) an event."""
        outcomes = self.run(list(events), context)  # the list is the handler's, to sort or empty it
        if outcomes is None:
            return [None] * len(events)
        outcomes = list(outcomes)
        if len(outcomes) != len(events):
            raise ValueError(f"handle_batch answered {len(outcomes)} outcomes for {len(events)} events")
        return outcomes

    def together(self, events, context):
        _begin(events[0]._record if len(events) == 1 else NO_EVENT)
        context._results = []
        try:
            outcomes = self.outcomes(events, context)
        except Exception as error:
            if len(events) > 1:  # one member must not fail the others
                print(f"handle_batch failed with {len(events)} events, they come one by one: {_place(error)}",
                      file=sys.stderr)
                return self.one_by_one(events, context, lambda event, ctx: self.outcomes([event], ctx)[0])
            outcomes = [error]
        answer = Answer(events)
        emitted = {}
        for result in context._results:
            emitted.setdefault(_RESULT.unpack_from(result)[0], []).append(result)
        for index, outcome in enumerate(outcomes):
            if outcome is None and not emitted and not answer.failed:
                continue
            if answer.failed and not answer.may_run(index):
                continue
            if isinstance(outcome, BaseException):
                answer.fail(index, outcome)
                continue
            own = emitted.get(index, [])
            if outcome is not None:
                try:
                    own.append(_result(index, outcome))
                except Exception as error:  # of this event alone
                    answer.fail(index, error)
                    continue
            if own:
                answer.give(index, own)
        for out in self.outputs:
            out.flush()
        return answer

    def answer(self, call, body):
        count, version, lane, timeout_ms, _, _ = _CALL.unpack_from(body)
        end = len(body) - 16 * count
        places = struct.unpack_from(f"<{4 * count}I", body, end)
        begins = places[:count]
        events = list(map(_new, itertools.repeat(Event, count)))
        for index, event, begin, end in zip(range(count), events, begins, (*begins[1:], end)):
            event._index = index
            event._record = body[begin:end]  # its own: who keeps an event does not keep the call's others
        global _ahead
        _ahead = Ahead(events, body, [places[column * count:(column + 1) * count] for column in (1, 2, 3)])
        context = Context(self.link, os.environ.get("HEADRACE_FUNCTION", ""), version, lane,
                          time.time() + timeout_ms / 1000, events)
        answer = self.together(events, context) if self.is_batch else self.one_by_one(events, context, self.run)
        _ahead = NOT_AHEAD
        _begin(NO_EVENT)
        self.link.send(ANSWER, call, answer.frame())


def _load(path, name):
    folder = os.path.dirname(os.path.abspath(path))
    sys.path.insert(0, folder)
    module_name = os.path.splitext(os.path.basename(path))[0]
    spec = importlib.util.spec_from_file_location(module_name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    spec.loader.exec_module(module)
    batch = name == "handle_batch" or (name == "handle" and not hasattr(module, "handle")
                                       and hasattr(module, "handle_batch"))
    handler = getattr(module, "handle_batch" if batch else name, None)
    if not callable(handler):
        raise AttributeError(f"{os.path.basename(path)} has no function {name}(event, ctx)")
    return handler, batch


def main():
    link = Link(int(os.environ.pop("HEADRACE_FD")))
    outputs = (Tagged(link, INFO, sys.stdout), Tagged(link, ERROR, sys.stderr))
    sys.stdout, sys.stderr = outputs
    gc.set_threshold(GARBAGE, *gc.get_threshold()[1:])  # before the handler, which may know better
    try:
        handler, is_batch = _load(sys.argv[1], sys.argv[2])
    except BaseException as error:
        why = _place(error).encode("utf-8", "replace")
        link.send(HELLO, 0, _PAIR.pack(0, len(why)) + why)
        return 1
    worker = Worker(link, outputs, handler, is_batch)
    link.send(HELLO, 0, _PAIR.pack(PLACES | (BATCHES if is_batch else 0), 0))
    while True:
        frame = link.receive()
        if frame is None:
            return 0
        kind, call, body = frame
        if kind == CALL:
            worker.answer(call, body)
        elif kind == BYE:
            return 0


if __name__ == "__main__":
    sys.exit(main())
