-- no-transaction
ALTER TABLE notes ADD COLUMN IF NOT EXISTS author text;
