# All variables. Patterns use regex_replace, because packer 1.6.6 has no regex function.
#
# No variable contains a secret: AWS credentials come from the environment or a profile, new-seed
# creates a new key for each qemu build, and the token with which a host joins belongs in its user
# data, never in an image.

# --- What goes into the image ---

variable "packages" {
  type        = list(string)
  description = "Packages of ecs-host-agent (.deb, .rpm); each image uses the one for its system."
  validation {
    condition     = length(var.packages) > 0
    error_message = "The list of packages must not be empty; build one with 'make package'."
  }
}

variable "image_archives" {
  type        = list(string)
  default     = []
  description = "Container images to include in the machine image: archives from 'docker save'."
}

variable "settings" {
  type        = map(string)
  default     = {}
  description = "Agent settings for hosts made from the image, such as ECS_IMAGE_PULL_BEHAVIOR."
  validation {
    condition     = length([for name in keys(var.settings) : name if regex_replace(name, "^ECS_[A-Z0-9_]+$", "") != ""]) == 0
    error_message = "The names in settings must be those of docs/configuration.md: ECS_..."
  }
}

variable "docker_package" {
  type        = string
  default     = ""
  description = "Docker package to install if there is no engine; empty: the distribution's package."
  validation {
    condition     = regex_replace(var.docker_package, "^[A-Za-z0-9.+:=~_-]*$", "") == ""
    error_message = "The docker_package must be one package name, such as docker.io or docker-ce."
  }
}

variable "upgrade_system" {
  type        = bool
  default     = true
  description = "Install the distribution's updates first."
}

# --- What comes out ---

variable "image_name" {
  type        = string
  default     = "ecs-host"
  description = "Prefix of image names."
  validation {
    condition     = var.image_name != "" && regex_replace(var.image_name, "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", "") == ""
    error_message = "The image_name must be 1 to 64 letters, digits, dots, dashes or underscores."
  }
}

variable "output_directory" {
  type        = string
  default     = "build/image"
  description = "Directory for the qcow2 file; must not exist."
}

variable "manifest" {
  type        = string
  default     = "packer-manifest.json"
  description = "Machine-readable file that lists the results: AMI ids and files."
}

variable "tags" {
  type        = map(string)
  default     = {}
  description = "Tags for everything that is created in AWS."
}

# --- Amazon machine images ---

variable "aws_region" {
  type        = string
  default     = "us-east-1"
  description = "Region to build in."
  validation {
    condition     = var.aws_region != "" && regex_replace(var.aws_region, "^[a-z]{2}(-[a-z]+)+-[0-9]+$", "") == ""
    error_message = "The aws_region must look like us-east-1."
  }
}

variable "aws_copy_regions" {
  type        = list(string)
  default     = []
  description = "Regions to copy the finished image to."
}

variable "aws_share_with" {
  type        = list(string)
  default     = []
  description = "Accounts that may use the image; needs aws_kms_key_id, as the disk is encrypted."
  validation {
    condition     = length([for id in var.aws_share_with : id if regex_replace(id, "^[0-9]{12}$", "") != "" || id == ""]) == 0
    error_message = "The list aws_share_with must contain account ids of 12 digits."
  }
}

variable "aws_kms_key_id" {
  type        = string
  default     = ""
  description = "Key that encrypts the disk; empty: the account's default key, which cannot be shared."
}

variable "aws_vpc_id" {
  type        = string
  default     = ""
  description = "VPC to build in; empty: the default VPC."
}

variable "aws_subnet_id" {
  type        = string
  default     = ""
  description = "Subnet to build in; empty: chosen by EC2."
}

variable "aws_iam_instance_profile" {
  type        = string
  default     = ""
  description = "Instance profile for the build; needed for aws_ssh_interface session_manager."
}

variable "aws_ssh_interface" {
  type        = string
  default     = "public_ip"
  description = "How Packer reaches the machine: public_ip, private_ip, public_dns, private_dns or session_manager."
  validation {
    condition     = contains(["public_ip", "private_ip", "public_dns", "private_dns", "session_manager"], var.aws_ssh_interface)
    error_message = "The aws_ssh_interface must be public_ip, private_ip, public_dns, private_dns or session_manager."
  }
}

variable "aws_instance_type_amd64" {
  type        = string
  default     = "m6i.large"
  description = "Instance type that builds images for x86_64."
}

variable "aws_instance_type_arm64" {
  type        = string
  default     = "m6g.large"
  description = "Instance type that builds images for arm64."
}

variable "aws_volume_size_gib" {
  type        = number
  default     = 30
  description = "Size of the root disk in GiB."
  validation {
    condition     = var.aws_volume_size_gib >= 8 && var.aws_volume_size_gib <= 16384
    error_message = "The aws_volume_size_gib must be from 8 to 16384."
  }
}

variable "aws_amazon_linux_kernel" {
  type        = string
  default     = "6.1"
  description = "Kernel line of the Amazon Linux 2023 image to start from."
  validation {
    condition     = var.aws_amazon_linux_kernel != "" && regex_replace(var.aws_amazon_linux_kernel, "^[0-9]+\\.[0-9]+$", "") == ""
    error_message = "The aws_amazon_linux_kernel must look like 6.1."
  }
}

# --- qcow2 ---

variable "qemu_image_url" {
  type        = string
  default     = "https://cloud.debian.org/images/cloud/bookworm/latest/debian-12-generic-amd64.qcow2"
  description = "Disk to start from, with cloud-init and sshd: a vendor's cloud image, or a local file."
}

variable "qemu_image_checksum" {
  type        = string
  default     = "file:https://cloud.debian.org/images/cloud/bookworm/latest/SHA512SUMS"
  description = "Checksum of that disk: sha256:HEX, sha512:HEX, file:URL of a list, or none."
  validation {
    condition     = var.qemu_image_checksum != "" && regex_replace(var.qemu_image_checksum, "^(none|file:.+|(md5|sha1|sha256|sha512):[0-9A-Fa-f]+)$", "") == ""
    error_message = "The qemu_image_checksum must be sha256:HEX, sha512:HEX, file:URL or none."
  }
}

variable "qemu_seed" {
  type        = string
  default     = ""
  description = "Directory written by new-seed; empty: seed, next to the templates."
}

variable "qemu_arch" {
  type        = string
  default     = "x86_64"
  description = "Architecture of the image, in qemu's terms: x86_64 or aarch64."
  validation {
    condition     = contains(["x86_64", "aarch64"], var.qemu_arch)
    error_message = "The qemu_arch must be x86_64 or aarch64."
  }
}

variable "qemu_firmware" {
  type        = string
  default     = "/usr/share/qemu-efi-aarch64/QEMU_EFI.fd"
  description = "UEFI firmware for aarch64, which has no BIOS."
}

variable "qemu_accelerator" {
  type        = string
  default     = "kvm"
  description = "kvm, hvf (macOS), or tcg if there is neither, which is about ten times slower."
  validation {
    condition     = contains(["kvm", "hvf", "tcg", "none"], var.qemu_accelerator)
    error_message = "The qemu_accelerator must be kvm, hvf, tcg or none."
  }
}

variable "qemu_cpu" {
  type        = string
  default     = ""
  description = "CPU model of the build machine; empty: the host's, or the best emulated one."
}

variable "qemu_cpus" {
  type        = number
  default     = 2
  description = "CPUs of the build machine."
  validation {
    condition     = var.qemu_cpus >= 1 && floor(var.qemu_cpus) == var.qemu_cpus
    error_message = "The qemu_cpus must be an integer, at least 1."
  }
}

variable "qemu_memory_mib" {
  type        = number
  default     = 2048
  description = "Memory of the build machine in MiB."
  validation {
    condition     = var.qemu_memory_mib >= 512
    error_message = "The qemu_memory_mib must be at least 512."
  }
}

variable "qemu_disk_size" {
  type        = string
  default     = "20G"
  description = "Size of the disk as a host sees it; the file contains only used blocks."
  validation {
    condition     = var.qemu_disk_size != "" && regex_replace(var.qemu_disk_size, "^[0-9]+[MG]$", "") == ""
    error_message = "The qemu_disk_size must look like 20G or 8192M."
  }
}

variable "qemu_disk_compression" {
  type        = bool
  default     = true
  description = "Compress the finished file: smaller, but slower to write."
}

variable "qemu_headless" {
  type        = bool
  default     = true
  description = "Show no window."
}

variable "qemu_args" {
  type        = list(list(string))
  default     = []
  description = "Additional arguments for qemu, such as [[\"-serial\", \"file:console.log\"]]."
}

variable "ssh_timeout" {
  type        = string
  default     = "15m"
  description = "How long the machine may take to boot and accept Packer's login."
}
