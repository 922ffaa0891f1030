# The SimCLR example of lightly's README (MIT licence) with STAR in it.
import torch
import torchvision

from lightly import transforms
from lightly.data import LightlyDataset
from star_head import STARLoss, STARProjectionHead
from star_head.adapters.torchvision import RecordedTransform


# Create a PyTorch module for the SimCLR model.
class SimCLR(torch.nn.Module):
    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone
        self.projection_head = STARProjectionHead(
            input_dim=512,  # Resnet18 features have 512 dimensions.
            hidden_dim=512,
            output_dim=128,
            statistics="imagenet100",  # Sizes of photographs; see estimate_statistics.
        )

    def forward(self, x):
        features = self.backbone(x).flatten(start_dim=1)
        z = self.projection_head(features)
        return z


# Use a resnet backbone from torchvision.
backbone = torchvision.models.resnet18()
# Ignore the classification head as we only want the features.
backbone.fc = torch.nn.Identity()

# Build the SimCLR model.
model = SimCLR(backbone)

# Prepare transform that creates multiple random views for every image.
transform = RecordedTransform(transforms.SimCLRTransform(input_size=32, cj_prob=0.5))


# Create a dataset from your image folder.
dataset = LightlyDataset(input_dir="./my/cute/cats/dataset/", transform=transform)

# Build a PyTorch dataloader.
dataloader = torch.utils.data.DataLoader(
    dataset,  # Pass the dataset to the dataloader.
    batch_size=128,  # A large batch size helps with the learning.
    shuffle=True,  # Shuffling is important!
)

# Lightly exposes building blocks such as loss functions.
criterion = STARLoss(temperature=0.5)

# Get a PyTorch optimizer.
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=1e-6)

# Train the model.
for epoch in range(10):
    for (original, (view0, view1), params), targets, filenames in dataloader:
        e = model(original).equivariant
        z0 = model(view0)
        z1 = model(view1)
        loss = criterion(z0, z1, *(model.projection_head.predict(e, p) for p in params)).total
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        print(f"loss: {loss.item():.5f}")
