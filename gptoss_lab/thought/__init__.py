"""The thought lab: a model's thinking as a tree of branches.

    thoughts = lab.ThoughtLab(model, "What is 38 + 57?")
    thoughts.run()                                       # the first thought
    thoughts.edit(step=2, text="Units: 8 + 7 = 16, write 6, carry 1.\\n")
    print(thoughts.compare(0, 1))

lab             ThoughtLab: the verbs
experimenting   those that ask what caused what
tree            Branch, Token, Settings: a branch as a value
changes         what a verb makes of a branch, as a value
sprouting       a new branch, and what it shares with the one that it starts from
growing         Growth: a branch while it grows, consistent whenever it is interrupted
structure       where a branch is not in harmony's form
differences     two branches side by side
saving          a tree as one JSON file, and back
desk            ThoughtDesk: the lab in a notebook, with the mouse
"""
