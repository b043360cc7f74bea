# The plugins that Packer 1.7 and later must download once: packer init packer/plugins
#
# In a separate directory, because Packer does not read subdirectories: Debian's packer 1.6.6 has
# these builders built in and fails at a required_plugins block.

packer {
  required_plugins {
    amazon = {
      source  = "github.com/hashicorp/amazon"
      version = ">= 1.3.0"
    }
    qemu = {
      source  = "github.com/hashicorp/qemu"
      version = ">= 1.1.0"
    }
  }
}
