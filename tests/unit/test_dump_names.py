"""Names of the parts of a MongoDB's backup, from which mongorestore takes those of databases and collections."""

from __future__ import annotations

from worker.store.mongo.raw import BSON, collection_of, path_of


def test_a_database_stands_as_it_is_and_a_collection_escaped() -> None:
    assert path_of("bücher", "a/b c ü", BSON) == "records/bücher/a%2Fb%20c%20%C3%BC.bson"
    assert collection_of(path_of("bücher", "a/b c ü", BSON)) == "a/b c ü"
