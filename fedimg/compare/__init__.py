"""Several learners on one federation, side by side: one table, one figure.

    learners   a name, an ε           → which overrides ask for it; what a kind of model is good for, and its limits
    reading    a run's folder         → a `Row` of what it reached and what it cost
    figure     rows                   → the picture
    writing    rows                   → JSON, CSV, Markdown, a page

Nothing here runs anything: `fedimg.simulation.comparing` does, and `fedimg compare` asks it to.
"""
