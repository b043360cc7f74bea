# A qcow2 file for your own hosts, made from a disk that already has cloud-init and sshd.
#
# Packer logs in with the seed from new-seed: a user and a key only for this build. The shutdown
# command removes both.

source "qemu" "host" {
  iso_url      = var.qemu_image_url
  iso_checksum = var.qemu_image_checksum
  disk_image   = true

  output_directory   = var.output_directory
  vm_name            = "${var.image_name}.qcow2"
  format             = "qcow2"
  disk_size          = var.qemu_disk_size
  disk_compression   = var.qemu_disk_compression
  disk_interface     = "virtio-scsi"
  disk_cache         = "unsafe" # a build that loses power must start again anyway
  disk_discard       = "unmap"
  disk_detect_zeroes = "unmap"

  accelerator  = var.qemu_accelerator
  qemu_binary  = "qemu-system-${var.qemu_arch}"
  machine_type = var.qemu_arch == "aarch64" ? "virt" : "pc"
  cpus         = var.qemu_cpus
  memory       = var.qemu_memory_mib
  net_device   = "virtio-net"
  headless     = var.qemu_headless

  qemuargs = concat(
    [["-cpu", local.qemu_cpu]],
    var.qemu_arch == "aarch64" ? [["-bios", var.qemu_firmware]] : [],
    var.qemu_args,
  )

  cd_label = "cidata"
  cd_files = ["${local.seed}/user-data", "${local.seed}/meta-data"]
  # Cloud kernels have no drivers for IDE or SATA.
  cdrom_interface = "virtio"

  boot_wait            = "1s" # nothing is typed
  ssh_username         = local.build_user
  ssh_private_key_file = "${local.seed}/id_ed25519"
  ssh_timeout          = var.ssh_timeout

  shutdown_command = "sudo bash ${local.tools}/finish.sh ${local.build_user}"
  shutdown_timeout = "2m"
}
