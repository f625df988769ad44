-- The back office finds people by how their address or a word of their name begins.
create index users_email_begins on users (lower(email) text_pattern_ops);
create index users_words on users using gin (to_tsvector('simple', name));
