/* For Linux' init/initramfs.c, which fills the archive with a pattern when it has unpacked it. */
#include "init.h"
