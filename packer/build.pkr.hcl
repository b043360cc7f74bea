# One build: every image goes through the same steps, and each step detects the system it runs on.
#
# Choose images with -only, for example -only='*.qemu.host' or -only='*.amazon-ebs.debian-12-*'.

build {
  name = "ecs"

  source "qemu.host" {
  }

  source "amazon-ebs.host" {
    name          = "debian-12-amd64"
    ami_name      = "${var.image_name}-debian-12-amd64-${local.stamp}"
    instance_type = var.aws_instance_type_amd64
    ssh_username  = "admin"
    source_ami_filter {
      filters = {
        name                = "debian-12-amd64-*"
        architecture        = "x86_64"
        root-device-type    = "ebs"
        virtualization-type = "hvm"
      }
      owners      = ["136693071363"]
      most_recent = true
    }
  }

  source "amazon-ebs.host" {
    name          = "debian-12-arm64"
    ami_name      = "${var.image_name}-debian-12-arm64-${local.stamp}"
    instance_type = var.aws_instance_type_arm64
    ssh_username  = "admin"
    source_ami_filter {
      filters = {
        name                = "debian-12-arm64-*"
        architecture        = "arm64"
        root-device-type    = "ebs"
        virtualization-type = "hvm"
      }
      owners      = ["136693071363"]
      most_recent = true
    }
  }

  source "amazon-ebs.host" {
    name          = "amazon-linux-2023-amd64"
    ami_name      = "${var.image_name}-amazon-linux-2023-amd64-${local.stamp}"
    instance_type = var.aws_instance_type_amd64
    ssh_username  = "ec2-user"
    source_ami_filter {
      filters = {
        name                = "al2023-ami-2023.*-kernel-${var.aws_amazon_linux_kernel}-x86_64"
        architecture        = "x86_64"
        root-device-type    = "ebs"
        virtualization-type = "hvm"
      }
      owners      = ["amazon"]
      most_recent = true
    }
  }

  source "amazon-ebs.host" {
    name          = "amazon-linux-2023-arm64"
    ami_name      = "${var.image_name}-amazon-linux-2023-arm64-${local.stamp}"
    instance_type = var.aws_instance_type_arm64
    ssh_username  = "ec2-user"
    source_ami_filter {
      filters = {
        name                = "al2023-ami-2023.*-kernel-${var.aws_amazon_linux_kernel}-arm64"
        architecture        = "arm64"
        root-device-type    = "ebs"
        virtualization-type = "hvm"
      }
      owners      = ["amazon"]
      most_recent = true
    }
  }

  provisioner "shell" {
    script           = "${path.root}/scripts/10-wait-for-first-boot.sh"
    execute_command  = local.as_root
    environment_vars = ["IMAGE_UPLOADS=${local.uploads}", "IMAGE_TOOLS=${local.tools}"]
  }

  provisioner "file" {
    sources     = concat(var.packages, var.image_archives)
    destination = "${local.uploads}/"
  }

  provisioner "file" {
    sources     = ["${path.root}/scripts/90-check-image.sh", "${path.root}/scripts/finish.sh"]
    destination = "${local.tools}/"
  }

  provisioner "shell" {
    scripts = [
      "${path.root}/scripts/20-upgrade-system.sh",
      "${path.root}/scripts/30-install-docker.sh",
      "${path.root}/scripts/40-install-agent.sh",
      "${path.root}/scripts/50-configure-docker.sh",
      "${path.root}/scripts/55-tune-kernel.sh",
      "${path.root}/scripts/60-leave-links-alone.sh",
      "${path.root}/scripts/65-make-keys-at-first-boot.sh",
      "${path.root}/scripts/70-load-images.sh",
      "${path.root}/scripts/80-clean-identity.sh",
      "${path.root}/scripts/90-check-image.sh",
    ]
    execute_command = local.as_root
    environment_vars = [
      "IMAGE_UPLOADS=${local.uploads}",
      "IMAGE_SETTINGS=${join("\n", [for name, value in var.settings : "${name}=${value}"])}",
      "IMAGE_UPGRADE=${var.upgrade_system}",
      "IMAGE_DOCKER_PACKAGE=${var.docker_package}",
    ]
  }

  post-processor "checksum" {
    only           = ["qemu.host"]
    checksum_types = ["sha256"]
    output         = "${var.output_directory}/${var.image_name}.sha256"
  }

  post-processor "manifest" {
    output     = var.manifest
    strip_path = true
  }
}
