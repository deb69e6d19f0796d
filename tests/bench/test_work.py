"""The requests of the benches are those that the figures name."""

from bench import work


def test_chats_are_the_same_for_the_same_seed_and_others_for_another() -> None:
    assert work.chats(50, "tiny", seed=1) == work.chats(50, "tiny", seed=1)
    assert work.chats(50, "tiny", seed=1) != work.chats(50, "tiny", seed=2)


def test_chats_have_10_to_120_words_and_run_for_16_to_96_tokens() -> None:
    chats = work.chats(2000, "tiny", seed=3)

    lengths = [len(chat["messages"][0]["content"].split()) for chat in chats]
    tokens = [chat["max_tokens"] for chat in chats]
    assert (min(lengths), max(lengths)) == (10, 120)
    assert (min(tokens), max(tokens)) == (16, 96)
    assert all(chat["ignore_eos"] for chat in chats)
    assert work.tokens(chats) == sum(tokens)
