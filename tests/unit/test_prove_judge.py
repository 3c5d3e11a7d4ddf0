#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The judge of tests/prove sees each thing that can be wrong: forged records, one fault in each."""
import copy
import pathlib
import socket
import sys
import tempfile
import threading
import types
import unittest
import unittest.mock

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "lib"))
from prove_case import Clock  # noqa: E402
from prove_digest import digest  # noqa: E402
from prove_inputs import Function, Input, Orders, Sent  # noqa: E402
from prove_judge import Handled, commit_s, dead_of, judge  # noqa: E402

EVENTS = 100


class Forged(Input):
    name = "in"
    functions = [Function("one", "in", "", "    batch: { size: 4 }\n"),
                 Function("two", "one", "", "")]


class Judge(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.one = Forged()
        for place in range(EVENTS):
            self.one.sent[f"e{place}"] = Sent(place, f"h{place}", "dead" if place == 7 else "ok")
            self.one.acked.append(f"e{place}")
        self.one.took_ms.update({4: 99, 500: 1})
        self.dead = {(name, "e7") for name in ("one", "two")}
        self.lines = [f"{name} e{place} key h{place}" for place in range(EVENTS) if place != 7
                      for name in ("one", "two")]
        counts = {"deliveries": EVENTS, "replays": 0, "drift": 0, "pending": 0, "slots": 2}
        self.status = {"triggers": [{"name": "in", "received": EVENTS, "malformed": 0}],
                       "functions": [{"name": name, **counts} for name in ("one", "two")]}

    def written(self, files=1):
        """What handlers wrote, all within a second."""
        paths, part = [], -(-len(self.lines) // files)
        for number in range(files):
            paths.append(pathlib.Path(self.folder.name) / f"handled{number}")
            paths[-1].write_text("".join(line + "\n" for line in
                                         self.lines[number * part:][:part]))
        handled = Handled(*paths)
        self.addCleanup(handled.close)
        with unittest.mock.patch("prove_judge.time.monotonic", return_value=1.0):
            handled.read()
        return handled

    def found(self, files=1, statuses=None):
        found, self.figures = judge([self.one], self.written(files), statuses or [self.status],
                                    self.dead, lambda text: None)
        return dict(found)

    def repeat(self, count, name="one"):
        self.lines += [f"{name} e{place} key h{place}" for place in range(10, 10 + count)]

    def test_what_is_right_is_right(self):
        self.assertEqual(self.found(), {})
        self.assertEqual((self.figures["acked"], self.figures["duplicates"]), (EVENTS, 0))

    def test_an_event_that_one_function_never_handled_is_lost(self):
        self.lines.remove("two e50 key h50")
        self.assertEqual(self.found(), {"lost": 1})

    def test_an_event_that_nobody_knows_of_is_lost_and_miscounted(self):
        self.lines = [line for line in self.lines if " e50 " not in line]
        self.status["triggers"][0]["received"] -= 1
        for function in self.status["functions"]:
            function["deliveries"] -= 1  # its drift stays 0
        self.assertEqual(self.found(), {"lost": 2, "miscounted": 3})

    def test_a_count_that_is_not_the_producers_is_seen_though_all_was_handled(self):
        for what, name, by in (("triggers", "received", -1), ("triggers", "received", 1),
                               ("functions", "deliveries", -1), ("functions", "deliveries", 1),
                               ("functions", "replays", 1), ("triggers", "malformed", 1)):
            with self.subTest(name=name, by=by):
                before = copy.deepcopy(self.status)
                self.status[what][0][name] += by
                self.assertEqual(self.found(), {"miscounted": 1})
                self.status = before

    def test_what_was_not_acknowledged_may_be_received_or_not(self):
        del self.one.acked[90:]
        self.assertEqual(self.found(), {})
        self.status["triggers"][0]["received"] = 89
        self.assertEqual(self.found(), {"miscounted": 1})

    def test_a_function_or_trigger_that_status_does_not_show_is_missed(self):
        self.status["functions"].pop()
        self.assertEqual(self.found(), {"uncounted": 1})
        self.status["triggers"].clear()
        self.assertEqual(self.found(), {"uncounted": 2})

    def test_what_was_never_sent_is_a_phantom(self):
        self.lines += ["one x key h", "three e1 key h1"]
        self.dead.add(("one", "y"))
        self.assertEqual(self.found(), {"phantoms": 3})

    def test_other_bytes_are_seen_at_the_first_and_at_the_second_time(self):
        self.lines[0] = "one e0 key h1"
        self.lines += ["# a kill", "one e1 key h2"]
        self.assertEqual(self.found(), {"altered": 2})

    def test_an_order_that_is_not_the_keys_is_seen(self):
        self.lines[0], self.lines[2] = self.lines[2], self.lines[0]
        self.assertEqual(self.found(), {"out_of_order": 1})

    def test_a_dead_letter_that_nobody_asked_for_is_seen(self):
        self.dead.add(("one", "e8"))
        self.assertEqual(self.found(), {"dead_unasked": 1})

    def test_drift_and_what_is_pending_are_seen(self):
        self.status["functions"][0].update(drift=1, pending=1)
        self.assertEqual(self.found(), {"drift": 1, "pending": 1})

    def test_nothing_is_handled_twice_without_an_interruption(self):
        self.repeat(1)
        self.assertEqual(self.found(), {"too_often": 1})

    def test_a_kill_repeats_what_ran_and_what_was_done_within_two_commits(self):
        self.assertEqual(commit_s([self.one]), 0.005)
        self.lines.append("# a kill")
        allowed = 2 * 4 + 2 * 4  # slots, batches: what runs, and what each has just answered
        self.repeat(allowed)
        self.assertEqual(self.found(), {})
        self.assertEqual(self.figures["duplicates"], allowed)
        self.repeat(1)
        self.assertEqual(self.found(), {"too_often": 1})

    def test_a_function_without_batches_repeats_by_its_rate(self):
        self.lines.append("# a kill")
        self.one.took_ms.update({24: 9900})
        allowed = 2 + 6  # slots; 107 in a second, for two commits of 25 ms
        self.repeat(allowed, "two")
        self.assertEqual(self.found(), {})
        self.repeat(1, "two")
        self.assertEqual(self.found(), {"too_often": 1})

    def test_what_comes_seldom_may_have_come_at_once(self):
        self.lines = [line for line in self.lines if line.split()[0] != "two"]
        self.assertTrue(self.lines)
        few = [f"two e{number} key h{number}" for number in range(4)]
        self.lines += [*few, "# a kill", *few]
        self.assertNotIn("too_often", self.found())
        self.lines += few[:1]
        self.assertEqual(self.found()["too_often"], 1)

    def test_each_function_has_an_allowance_of_its_own(self):
        self.lines.append("# a kill")
        self.repeat(5, "two")
        self.assertEqual(self.found(), {"too_often": 1})

    def test_a_life_that_handled_nothing_repeats_nothing(self):
        self.lines += ["# a kill", "one e1 key h1", "# a kill", "# a kill"]
        self.repeat(16)
        self.assertEqual(self.found(), {})
        self.repeat(1)
        self.assertEqual(self.found(), {"too_often": 1})

    def test_a_window_of_the_source_counts_for_each_interruption(self):
        self.one.window = 20
        self.lines += ["# a kill", "# a kill"]
        self.repeat(50)
        self.status["triggers"][0]["received"] += 40
        self.status["functions"][0]["deliveries"] += 40
        self.assertEqual(self.found(), {})
        self.status["triggers"][0]["received"] += 1
        self.assertEqual(self.found(), {"miscounted": 1})

    def test_a_producer_that_dies_is_told_of(self):
        def work():
            raise AssertionError("/hooks answered 500")

        self.one.go(work)
        self.one.join()
        self.assertEqual(self.one.failures, ["AssertionError: /hooks answered 500"])
        self.assertEqual(self.found(), {"producers": 1})

    def test_an_answer_that_nobody_expects_ends_its_producer(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            def answer():
                caller, _ = server.accept()
                with caller:
                    caller.recv(65536)
                    caller.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

            threading.Thread(target=answer, daemon=True).start()
            orders = Orders("a seed")
            orders.count = 1
            orders.watch(Handled(pathlib.Path(self.folder.name) / "none"))
            self.addCleanup(orders.handled.close)
            orders.start(types.SimpleNamespace(port=server.getsockname()[1]), threading.Event())
            orders.join()
        self.assertIn("/hooks/orders answered 400", orders.failures[0])

    def test_two_daemons_are_counted_together(self):
        half = copy.deepcopy(self.status)
        for function in half["functions"]:
            function["deliveries"] //= 2
        self.one.is_pull = True  # each counts what it was given, again and again
        self.assertEqual(self.found(2, [half, half]), {})
        self.assertEqual(self.found(2, [half, self.status]), {"miscounted": 2})

    def test_the_clock_of_a_sweep_owes_what_came_before_its_first_tick(self):
        self.one, now = Clock(), 1_700_000_000
        self.one.start(None, None)
        name = self.one.functions[0].name
        for second in range(now + 5, now + 11):
            id_ = self.one._id(second)
            self.lines.append(f"{name} {id_} ticks {digest(id_.partition('/')[2].encode())}")
        self.lines = self.lines[-6:]
        self.dead.clear()
        self.status = {"triggers": [{"name": "ticks", "received": 8, "malformed": 0}],
                       "functions": [{"name": name, "deliveries": 8, "replays": 0, "drift": 0,
                                      "pending": 0, "slots": 1}]}
        handled = self.written()
        with unittest.mock.patch("time.time", return_value=now + 10):
            self.one.began = now - 20
            self.one.owe(handled, now + 2)
            self.assertEqual(self.found(), {"lost": 2})

    def test_letters_are_known_by_the_provers_ids(self):
        self.one.own_id = lambda id_: id_.upper()
        letters = [{"function": "one", "id": "a"}, {"function": "other", "id": "b"}]
        self.assertEqual(dead_of([self.one], letters), {("one", "A")})


if __name__ == "__main__":
    unittest.main()
