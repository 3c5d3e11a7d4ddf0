-- SPDX-License-Identifier: Apache-2.0
-- Schema version 2: a row of a journal holds one event or many.
--   pos: position of the first; more: how many follow it, in the next positions;
--   sum, bytes: of one event its envelope and the sum of it; of many as broker/store_pack.c has it.
-- The column was `target`, always 0, and every row held one event.
-- for each journal:
ALTER TABLE journal_N RENAME COLUMN target TO more;
