# What Packer 1.7 and later must fetch once: packer init packer/plugins
#
# In a directory of its own, because Packer reads a directory without those below it: Debian's
# packer 1.6.6 has these builders built in and stops at a required_plugins block.

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
