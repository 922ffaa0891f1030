# simclr_plain.py, changed by README's recipe.
# mypy: ignore-errors
import torch
import torchvision
from lightly.data import LightlyDataset
from lightly.transforms import SimCLRTransform
from torch import nn

from star_head import STARLoss, STARProjectionHead, estimate_statistics
from star_head.adapters.torchvision import RecordedTransform


class SimCLR(nn.Module):
    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone
        statistics = estimate_statistics(transform, "images")
        self.projection_head = STARProjectionHead(512, 512, 128, statistics=statistics)

    def forward(self, x):
        x = self.backbone(x).flatten(start_dim=1)
        z = self.projection_head(x)
        return z


transform = RecordedTransform(SimCLRTransform(input_size=32, gaussian_blur=0.0))
resnet = torchvision.models.resnet18()
backbone = nn.Sequential(*list(resnet.children())[:-1])
model = SimCLR(backbone)

device = "cuda" if torch.cuda.is_available() else "cpu"
model.to(device)

dataset = LightlyDataset("images", transform=transform)

dataloader = torch.utils.data.DataLoader(
    dataset,
    batch_size=32,
    shuffle=True,
    drop_last=True,
    num_workers=2,
)

criterion = STARLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.06)

print("Starting Training")
for epoch in range(3):
    total_loss = 0
    for batch in dataloader:
        original, (x0, x1), params = batch[0].to(device)
        x0 = x0.to(device)
        x1 = x1.to(device)
        e = model(original).equivariant
        z0 = model(x0)
        z1 = model(x1)
        loss = criterion(z0, z1, *(model.projection_head.predict(e, p) for p in params)).total
        total_loss += loss.detach()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    avg_loss = total_loss / len(dataloader)
    print(f"epoch: {epoch:>02}, loss: {avg_loss:.5f}")
