"""The physics under the prior, and its seam: `Solver`.

A solver is made for one world (its `Matter`, tools and `Parameters`) and then only answers: `step` gives the
state a time `dt` later, for states with exactly one batch axis, from tool poses and grips at the end of that
time. It keeps nothing between calls, leaves its arguments alone, and treats samples alike and independently.
`Prior` (see dynamics/prior.py) checks actions and states, and puts any solver behind `Dynamics`.

The default, `ContactSolver`, takes implicit substeps. Rigid and jointed parts are one vector of speeds
(twists about centres of mass, rates of joints), solved for all contacts at once. Ropes, cloths and soft
bodies are particles with springs whose matrix is inverted once for a world; contacts press through that.

Where nobody asks for gradients, the kernel in gaussworld/render/kernels/contact.cpp answers for rigid and
jointed parts, several times as fast (`CompiledContacts`); without it PyTorch does the same.
"""
