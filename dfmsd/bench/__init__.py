"""What the methods' losses cost: measured time and memory, against plain feature MSE and against the least that they must move."""
