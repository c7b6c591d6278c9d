"""Guard models: other programs' models that are asked over HTTP whether a text may pass.

A policy names them (`spec`); each kind has a file that knows its prompt and its replies; a `post` asks one on behalf of
all streams, within budgets and behind a breaker; a `hold` keeps a stream back until its windows have been judged.
"""
