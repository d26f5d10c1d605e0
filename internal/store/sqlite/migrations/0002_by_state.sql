-- For finding the records of a noun in a state, such as the free instances of a fleet.
CREATE INDEX record_by_state ON record (account, region, noun, state, name);
