# SPDX-License-Identifier: Apache-2.0
# What the tests in qemu share; sourced behind lib.sh. dir is where they keep their files.
# shellcheck shell=bash

# The package of the newest kernel that linux-image-amd64 stands for, unpacked in $dir/kernel.
fetch_kernel() (
        package=$(apt-cache depends linux-image-amd64 | awk '$1 == "Depends:" { print $2; exit }')
        [ -n "$package" ] && cd "$dir" && exec 9>kernel.lock && flock 9 || exit
        [ -e "$package" ] && exit
        rm -rf kernel ./*.deb && apt-get -qq -o APT::Sandbox::User=root download "$package" &&
                dpkg-deb -x "$package"_*.deb kernel && rm -f ./*.deb && touch "$package"
)
