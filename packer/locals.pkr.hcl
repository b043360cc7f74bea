# Values derived from the variables.

locals {
  stamp = formatdate("YYYYMMDD-hhmmss", timestamp())

  # Directories in the build machine: the first is large and removed by clean-identity; the second
  # is in memory and exists until the machine is off.
  uploads = "/var/tmp/ecs-image"
  tools   = "/run/ecs-image"

  # As root and without the caller's environment, the same on every system.
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

  # qemu's default CPU lacks features that some distributions require. With emulation, five-level
  # page tables would only cost time.
  qemu_emulated = var.qemu_arch == "x86_64" ? "max,la57=off" : "max"
  qemu_best     = contains(["kvm", "hvf"], var.qemu_accelerator) ? "host" : local.qemu_emulated
  qemu_cpu      = var.qemu_cpu != "" ? var.qemu_cpu : local.qemu_best
}
