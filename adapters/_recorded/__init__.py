"""What star_head.adapters.torchvision is made of: operations, trees of them, and their numbers.

A known operation is a small entry that says how it draws, what it does with what it drew, and
which numbers tell it (``operation.py``; the entries lie in ``v1.py``, ``v2.py``, ``own.py``).
``build.py`` makes a tree of nodes from a transform, ``tree.py`` walks it, ``canvas.py`` follows
the image's size and place through it.
"""
