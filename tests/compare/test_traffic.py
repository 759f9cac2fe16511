"""What is counted of an exchange: every byte of every message, once."""

from hypothesis import given
from hypothesis import strategies as st

from fedimg.coordination.traffic import MeteredExchange, cost_of

sites = st.sampled_from(["a", "b", "c"])
messages = st.dictionaries(sites, st.binary(max_size=50), max_size=3)
exchanges = st.lists(
    st.tuples(messages, st.dictionaries(sites, st.none() | st.binary(max_size=50))), max_size=6
)


@given(st.lists(exchanges, min_size=1, max_size=4))
def test_a_runs_bytes_are_those_of_its_messages(rounds):
    rows, given_out = [], iter([answers for exchanged in rounds for _, answers in exchanged])
    metered = MeteredExchange(lambda _outgoing: next(given_out))
    for exchanged in rounds:
        for outgoing, answers in exchanged:
            assert metered(outgoing) is answers
        rows.append({"seconds": 0.5} | metered.taken())
    for name in "abc":
        received = sum(len(out.get(name, b"")) for exchanged in rounds for out, _ in exchanged)
        sent = sum(len(answers.get(name) or b"") for exchanged in rounds for _, answers in exchanged)
        carried = all(any(out for out, _ in exchanged) for exchanged in rounds)
        cost = cost_of(rows)
        assert cost["seconds"] == 0.5 * len(rounds)
        if carried:
            assert cost["bytes_received"].get(name, 0) == received
            assert cost["bytes_sent"].get(name, 0) == sent
        else:
            assert cost["bytes_sent"] is None


def test_a_round_that_was_not_counted_leaves_the_run_without_a_total():
    counted = {"seconds": 1.0, "bytes_sent": {"a": 1}, "bytes_received": {"a": 1}}
    nothing = {"seconds": None, "bytes_sent": None, "bytes_received": None}
    assert cost_of([counted, {"round": 2}]) == nothing
    assert cost_of([]) == nothing
    assert cost_of([counted, counted]) == {"seconds": 2.0, "bytes_sent": {"a": 2}, "bytes_received": {"a": 2}}
