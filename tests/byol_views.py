"""BYOL's two views at 16 pixels, with rotation, as a YAML file names them."""

BYOL = """
data:
  transform:
    class_path: lightly.transforms.BYOLTransform
    init_args:
      view_1_transform:
        class_path: lightly.transforms.BYOLView1Transform
        init_args: &view {input_size: 16, rr_prob: 0.5, rr_degrees: 30}
      view_2_transform:
        class_path: lightly.transforms.BYOLView2Transform
        init_args: *view
"""
