# What is put into an Odoo is tried on the stand-in.
target_link_libraries(ops_test PRIVATE sandbox_odoo_lib)
