# What follows from the variables.

locals {
  stamp = formatdate("YYYYMMDD-hhmmss", timestamp())

  # Directories in the machine that is built: one is big and removed by clean-identity, the other is in
  # memory and lasts until the machine is off.
  uploads = "/var/tmp/ecs-image"
  tools   = "/run/ecs-image"

  # As root and without the caller's environment, on every system alike.
  as_root = "sudo env {{ .Vars }} bash '{{ .Path }}'"

  tags = merge(
    {
      Name    = var.image_name
      Product = "ecs-host-agent"
      Package = join(" ", [for path in var.packages : basename(path)])
    },
    var.tags,
  )

  seed       = var.qemu_seed != "" ? var.qemu_seed : "${path.root}/seed"
  build_user = "ecs-build"

  # qemu's own default lacks what some distributions are compiled for. Where it is emulated, page tables
  # of five levels would only cost time.
  qemu_emulated = var.qemu_arch == "x86_64" ? "max,la57=off" : "max"
  qemu_best     = contains(["kvm", "hvf"], var.qemu_accelerator) ? "host" : local.qemu_emulated
  qemu_cpu      = var.qemu_cpu != "" ? var.qemu_cpu : local.qemu_best
}
