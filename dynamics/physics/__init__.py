"""The physics under the prior, and its seam: `Solver`.

A solver is made for one world (its `Matter`, tools and `Parameters`) and then only answers: `step` gives the state
a time `dt` later, for states with exactly one batch axis, tool poses and grips at the end of that time. It
keeps nothing between calls, leaves its arguments alone, and treats samples alike and independently. `Prior` (see
dynamics/prior.py) checks actions and states, and puts any solver behind the protocol `Dynamics`.
"""
