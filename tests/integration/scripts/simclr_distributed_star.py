# simclr_distributed.py, changed by README's recipe.
# mypy: ignore-errors
import gc

import pytorch_lightning as pl
import torch
import torchvision
from lightly.data import LightlyDataset
from lightly.transforms import SimCLRTransform
from torch import nn

from star_head import STARLoss, STARProjectionHead
from star_head.adapters.torchvision import RecordedTransform


class SimCLR(pl.LightningModule):
    def __init__(self):
        super().__init__()
        resnet = torchvision.models.resnet18()
        self.backbone = nn.Sequential(*list(resnet.children())[:-1])
        self.projection_head = STARProjectionHead(512, 512, 128, statistics="imagenet100")

        # enable gather_distributed to gather features from all gpus
        # before calculating the loss
        self.criterion = STARLoss(gather_distributed=True)

    def forward(self, x):
        x = self.backbone(x).flatten(start_dim=1)
        z = self.projection_head(x)
        return z

    def training_step(self, batch, batch_index):
        original, (x0, x1), params = batch[0]
        e = self.forward(original).equivariant
        z0 = self.forward(x0)
        z1 = self.forward(x1)
        loss = self.criterion(z0, z1, *(self.projection_head.predict(e, p) for p in params)).total
        self.log("train_loss", loss, on_step=False, on_epoch=True, sync_dist=True)
        return loss

    def configure_optimizers(self):
        optim = torch.optim.SGD(self.parameters(), lr=0.06)
        return optim


model = SimCLR()

transform = RecordedTransform(SimCLRTransform(input_size=32))
dataset = LightlyDataset("images", transform=transform)

dataloader = torch.utils.data.DataLoader(
    dataset,
    batch_size=16,
    shuffle=True,
    drop_last=True,
    num_workers=0,
)

# Train with DDP and use Synchronized Batch Norm for a more accurate batch norm
# calculation, which PyTorch has on GPUs. Distributed sampling is also enabled with
# use_distributed_sampler=True.
trainer = pl.Trainer(
    max_epochs=3,
    devices=2,
    accelerator="gpu" if torch.cuda.is_available() else "cpu",
    strategy="ddp",
    sync_batchnorm=torch.cuda.is_available(),
    use_distributed_sampler=True,
    logger=pl.loggers.CSVLogger("logs"),
)
trainer.fit(model=model, train_dataloaders=dataloader)

# A thread of gloo's that is left when Python ends would abort it.
gc.collect()
torch.distributed.destroy_process_group()
