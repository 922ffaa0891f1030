"""What star_head.adapters.kornia is made of: known augmentations, trees of them, their numbers.

A known augmentation is a small entry that says which numbers tell it and where they lie in the
parameters that kornia keeps (``operations.py``). kornia itself draws and applies. ``tree.py`` walks
a container and its parameters, ``canvas.py`` follows size and place of the images through it.
"""
