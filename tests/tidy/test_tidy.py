#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Tidy must be able to fail: each rule finds what it is there for, and lets good code pass."""
import unittest

import tidy

HEAD = f"/* {tidy.SPDX} */\n"


class Tidy(unittest.TestCase):
    def finds(self, path, text, part):
        found = [what for _, what in tidy.check(path, HEAD + text)]
        self.assertTrue(any(part in what for what in found), f"{path}: {found}")

    def passes(self, path, text):
        self.assertEqual([], list(tidy.check(path, HEAD + text)))

    def test_layers_look_only_leftwards(self):
        self.finds("core/a.c", '#include "broker/b.h"\n', "may not include")
        self.finds("net/a.c", '#include "broker/b.h"\n', "may not include")
        self.finds("triggers/a.c", '#include "functions/b.h"\n', "may not include")
        self.finds("broker/a.c", '#include "b.h"\n', "by its layer")
        self.passes("app/a.c", '#include "triggers/b.h"\n#include "app/a.h"\n')
        self.passes("tests/unit/core/t.c", '#include "app/a.h"\n')

    def test_a_foreign_library_stays_behind_its_family(self):
        self.finds("broker/dispatch.c", "#include <sqlite3.h>\n", "belongs behind")
        self.finds("triggers/kafka.c", "#include <librdkafka/rdkafka.h>\n", "belongs behind")
        self.finds("triggers/mqtt.c", "#include <MQTTAsync.h>\n", "belongs behind")
        self.passes("broker/store_sql.c", "#include <sqlite3.h>\n")
        self.passes("net/kafka_client.c", "#include <librdkafka/rdkafka.h>\n")

    def test_banned_calls_are_found_and_named_in_comments_only_are_not(self):
        self.finds("core/a.c", "void *a = malloc(3);\n", "malloc() is banned")
        self.finds("app/a.c", "    free (a);\n", "free() is banned")
        self.finds("tests/a.c", "sprintf(a, b);\n", "sprintf() is banned")
        self.finds("broker/dispatch_call.c", "x = time(NULL);\n", "time() is banned")
        self.passes("core/memory.c", "free(malloc(3));\n")
        self.passes("core/a.c", '/* malloc(3) */ hr_free(a); a->free(b); s = "malloc(3)";\n')
        self.passes("tests/a.c", "free(a);\n")

    def test_licence_and_guard(self):
        self.assertEqual(1, len(list(tidy.check("core/a.c", "int a;\n"))))
        self.finds("core/a.h", "/* What. */\n#ifndef CORE_A_H\n#define CORE_A_H\n", "HR_CORE_A_H")
        self.finds("core/a.h", "#ifndef HR_CORE_A_H\n#define HR_CORE_A_H\n", "one sentence")
        self.passes("core/a.h", "/* What. */\n#ifndef HR_CORE_A_H\n#define HR_CORE_A_H\n#endif\n")

    def test_functions_are_measured(self):
        text = "int a;\nstatic int f(int a,\n    int b) {\n    g();\n}\nint h(void);\n"
        self.assertEqual([(4, "x.c:2 f")], list(tidy.functions("x.c", text)))


if __name__ == "__main__":
    unittest.main()
