# Common options of all Amazon machine images; build.pkr.hcl adds the differences.
#
# Only options that Debian's packer 1.6.6 supports. It has none for the instance metadata service:
# docs/images.md says how to set a finished image to IMDSv2.

source "amazon-ebs" "host" {
  region        = var.aws_region
  ami_regions   = var.aws_copy_regions
  ami_users     = var.aws_share_with
  vpc_id        = var.aws_vpc_id
  subnet_id     = var.aws_subnet_id
  ssh_interface = var.aws_ssh_interface
  ssh_timeout   = var.ssh_timeout

  iam_instance_profile = var.aws_iam_instance_profile

  # Not RSA: an old Packer would sign with SHA-1, which current sshd versions refuse.
  temporary_key_pair_type = "ed25519"

  ena_support = true

  launch_block_device_mappings {
    device_name           = "/dev/xvda"
    volume_type           = "gp3"
    volume_size           = var.aws_volume_size_gib
    iops                  = 3000 # included in the price of gp3
    throughput            = 125
    encrypted             = true
    kms_key_id            = var.aws_kms_key_id
    delete_on_termination = true
  }

  aws_polling {
    delay_seconds = 15
    max_attempts  = 120
  }

  tags            = local.tags
  snapshot_tags   = local.tags
  run_tags        = local.tags
  run_volume_tags = local.tags
}
