# Tests of the back end and its parts, but for launch and its filters.
add_unit_test(cgroup sandbox WRAP mkdirat unlinkat)
add_unit_test(cgroup_v2 sandbox WRAP mkdirat unlinkat)
add_unit_test(sweep sandbox)
add_unit_test(skeleton sandbox)
add_unit_test(spec sandbox)
add_unit_test(layer sandbox)
add_unit_test(checkpoint sandbox WRAP launch_inside)

# The whole, with the real guest.
add_unit_test(sandbox sandbox guest_image)
add_unit_test(sandbox_image sandbox guest_image)
add_unit_test(sandbox_alone sandbox guest_image WRAP mounts_opaque)
